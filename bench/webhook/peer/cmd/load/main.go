// Command load posts one body over and over, over kept-alive TLS, and prints what came of it as
// JSON. With -rate it sends at that rate whatever the answers do, and counts latency from when a
// request was due; without, each connection sends as soon as it has its answer.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"sort"
	"sync"
	"time"
)

func main() {
	url := flag.String("url", "", "where to post")
	ca := flag.String("ca", "", "trusted certificate file")
	file := flag.String("body", "", "file with the body")
	connections := flag.Int("connections", 16, "kept-alive connections")
	rate := flag.Float64("rate", 0, "requests per second; 0 is as fast as can be")
	want := flag.String("want", `"patch":`, "what an answer has in it; without, it has not done the work")
	duration := flag.Duration("duration", 10*time.Second, "how long")
	warmUp := flag.Duration("warm-up", 2*time.Second, "how long before it counts")
	flag.Parse()
	body, err := os.ReadFile(*file)
	check(err)
	pem, err := os.ReadFile(*ca)
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, ServerName: "localhost"},
		MaxConnsPerHost:     *connections,
		MaxIdleConnsPerHost: *connections,
	}}
	begin := time.Now()
	from, until := begin.Add(*warmUp), begin.Add(*warmUp+*duration)
	due := make(chan time.Time, 100000)
	if *rate > 0 {
		go func() {
			for n := 0; ; n++ {
				at := begin.Add(time.Duration(float64(n) / *rate * 1e9))
				if at.After(until) {
					close(due)
					return
				}
				time.Sleep(time.Until(at))
				due <- at
			}
		}()
	}
	var lock sync.Mutex
	var taken []float64
	errors := 0
	var workers sync.WaitGroup
	for range *connections {
		workers.Add(1)
		go func() {
			defer workers.Done()
			var mine []float64
			failed := 0
			for {
				at := time.Now()
				if *rate > 0 {
					var more bool
					if at, more = <-due; !more {
						break
					}
				} else if at.After(until) {
					break
				}
				ok := post(client, *url, body, []byte(*want))
				if at.After(from) {
					mine = append(mine, time.Since(at).Seconds()*1e3)
					if !ok {
						failed++
					}
				}
			}
			lock.Lock()
			defer lock.Unlock()
			taken = append(taken, mine...)
			errors += failed
		}()
	}
	workers.Wait()
	sort.Float64s(taken)
	at := func(part float64) float64 {
		if len(taken) == 0 {
			return 0
		}
		return taken[min(int(part*float64(len(taken))), len(taken)-1)]
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"requests": len(taken), "errors": errors,
		"per_second": float64(len(taken)) / duration.Seconds(),
		"p50_ms":     at(.5), "p90_ms": at(.9), "p99_ms": at(.99), "max_ms": at(1),
	}))
}

func post(client *http.Client, url string, body, want []byte) bool {
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return false
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return err == nil && response.StatusCode == 200 && bytes.Contains(answer, want)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
