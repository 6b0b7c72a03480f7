// Compares ../quantities.json with Kubernetes' own parser: go run . ../quantities.json
// With -write it fills in the values instead.
//
// Beyond int64, and for some negative fractions, Value() gives noise: 1e19 is 0, 2^64+10^7 is 10^7.
// Such vectors carry "noise": what matters there is only that nobody takes them for a limit.
package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"

	inf "gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"
)

type vector struct {
	Text  string `json:"text"`
	Value *int64 `json:"value"`
	Noise bool   `json:"noise,omitempty"`
}

func main() {
	write := len(os.Args) == 3 && os.Args[1] == "-write"
	if len(os.Args) != 2 && !write {
		fail("usage: go run . [-write] FILE")
	}
	path := os.Args[len(os.Args)-1]
	content, err := os.ReadFile(path)
	if err != nil {
		fail(err)
	}
	var vectors []vector
	if err := json.Unmarshal(content, &vectors); err != nil {
		fail(err)
	}
	wrong := 0
	for i := range vectors {
		got, noise := value(vectors[i].Text)
		if !write && (!equal(got, vectors[i].Value) || noise != vectors[i].Noise) {
			fmt.Printf("%q: Go says %s, the file says %s\n", vectors[i].Text, show(got), show(vectors[i].Value))
			wrong++
		}
		vectors[i].Value, vectors[i].Noise = got, noise
	}
	if write {
		save(path, vectors)
	}
	fmt.Printf("%d vectors, %d differ\n", len(vectors), wrong)
	if wrong > 0 {
		os.Exit(1)
	}
}

// value is what pkg/util/bandwidth would work with, or nil where ParseQuantity refuses; and whether
// that differs from the number that was written, rounded away from zero.
func value(text string) (*int64, bool) {
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return nil, false
	}
	number := quantity.Value()
	// Go keeps 32 bits of an exponent.
	if _, exponent, found := strings.Cut(strings.ToLower(text), "e"); found {
		if power, err := strconv.ParseInt(exponent, 10, 64); err == nil && power != int64(int32(power)) {
			return &number, true
		}
	}
	exact := quantity.AsDec()
	if exact.Scale() < -1000 {
		return &number, exact.Sign() != 0
	}
	whole := new(inf.Dec).Round(exact, 0, inf.RoundUp)
	return &number, whole.UnscaledBig().Cmp(big.NewInt(number)) != 0
}

func equal(a, b *int64) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}

func show(number *int64) string {
	if number == nil {
		return "no quantity"
	}
	return fmt.Sprint(*number)
}

func save(path string, vectors []vector) {
	file, err := os.Create(path)
	if err != nil {
		fail(err)
	}
	defer file.Close()
	fmt.Fprintln(file, "[")
	for i, v := range vectors {
		text, _ := json.Marshal(v.Text)
		number, _ := json.Marshal(v.Value)
		comma := ","
		if i == len(vectors)-1 {
			comma = ""
		}
		noise := ""
		if v.Noise {
			noise = ", \"noise\": true"
		}
		fmt.Fprintf(file, "  {\"text\": %s, \"value\": %s%s}%s\n", text, number, noise, comma)
	}
	fmt.Fprintln(file, "]")
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
