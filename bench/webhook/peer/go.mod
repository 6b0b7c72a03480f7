module podpace.io/bench/webhook/peer

go 1.22
