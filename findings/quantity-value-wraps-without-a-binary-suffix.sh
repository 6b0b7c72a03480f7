#!/usr/bin/env bash
# k8s.io/apimachinery 0.34.2: 16Ei and 18446744073709551616 are the same number, and not the same Quantity.
#
# Seen: what is written with Ki to Ei is cut off at 2^63 - 1 while it is parsed. The same size written without
# such a suffix keeps all of its digits in comparisons and in its text, while Value() wraps: 0 for 16Ei
# without a suffix and for 20E, a negative number for 8Ei without one. So the two compare as different
# where they are equal, and Value() orders them the other way round.
#
# Needs Go 1.24 or newer and its module proxy. Fails when any of this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
cat > go.mod <<'MOD'
module finding

go 1.24.0

require k8s.io/apimachinery v0.34.2
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"
	"runtime/debug"

	"k8s.io/apimachinery/pkg/api/resource"
)

func main() {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "k8s.io/apimachinery" {
			fmt.Println(module.Path, module.Version)
		}
	}
	for _, text := range []string{"16Ei", "18446744073709551616", "20E", "8Ei", "9223372036854775808"} {
		quantity := resource.MustParse(text)
		fmt.Println(text, "->", quantity.String(), quantity.Value())
	}
	one, other := resource.MustParse("16Ei"), resource.MustParse("18446744073709551616")
	fmt.Println("compared:", one.Cmp(other))
}
GO
seen=$(GOFLAGS=-mod=mod go run . 2>"$work/errors" || cat "$work/errors")
echo "$seen"
diff <(echo "$seen") - <<'WANT'
k8s.io/apimachinery v0.34.2
16Ei -> 9223372036854775807 9223372036854775807
18446744073709551616 -> 18446744073709551616 0
20E -> 20E 0
8Ei -> 9223372036854775807 9223372036854775807
9223372036854775808 -> 9223372036854775808 -9223372036854775808
compared: -1
WANT
echo "as before"
