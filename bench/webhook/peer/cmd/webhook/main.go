// Command webhook is the least a Go admission webhook can be that writes the same patch: standard
// library only, one annotation form, no policy, no checks beyond reading the number.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"strings"
)

const prefix = "podpace.io/"

type review struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Request    *request `json:"request,omitempty"`
	Response   *answer  `json:"response,omitempty"`
}

type request struct {
	UID    string `json:"uid"`
	Object struct {
		Metadata struct {
			Name         string            `json:"name"`
			GenerateName string            `json:"generateName"`
			Labels       map[string]string `json:"labels"`
			Annotations  map[string]string `json:"annotations"`
		} `json:"metadata"`
	} `json:"object"`
}

type answer struct {
	UID       string `json:"uid"`
	Allowed   bool   `json:"allowed"`
	PatchType string `json:"patchType,omitempty"`
	Patch     []byte `json:"patch,omitempty"`
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

var scales = map[string]int64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

func parse(text string) (int64, error) {
	digits := strings.TrimRight(text, "kMGT")
	scale, known := scales[text[len(digits):]]
	if !known {
		return 0, fmt.Errorf("%q is not a quantity", text)
	}
	number, err := strconv.ParseInt(digits, 10, 64)
	return number * scale, err
}

func burst(bits int64) int64 {
	return min(max(bits/100, 2*65536*8), bits)
}

func patch(labels, annotations map[string]string) ([]byte, error) {
	want := map[string]string{}
	for _, direction := range []string{"ingress", "egress"} {
		text, found := annotations[prefix+direction+"-bandwidth"]
		if !found {
			text, found = annotations["kubernetes.io/"+direction+"-bandwidth"]
		}
		if !found {
			continue
		}
		bits, err := parse(text)
		if err != nil {
			return nil, err
		}
		want[direction+"-bits-per-second"] = strconv.FormatInt(bits, 10)
		want[direction+"-burst-bits"] = strconv.FormatInt(burst(bits), 10)
	}
	if len(want) == 0 {
		return nil, nil
	}
	want["limited"], want["source"], want["mode"] = "true", "pod", "enforce"
	var operations []operation
	if labels == nil {
		operations = append(operations, operation{"add", "/metadata/labels", map[string]string{}})
	}
	for key, value := range want {
		if labels[prefix+key] != value {
			path := "/metadata/labels/podpace.io~1" + key
			operations = append(operations, operation{"add", path, value})
		}
	}
	return json.Marshal(operations)
}

func mutate(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 3<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var in review
	if err := json.Unmarshal(body, &in); err != nil || in.Request == nil {
		http.Error(w, "not a review", http.StatusBadRequest)
		return
	}
	out := review{APIVersion: in.APIVersion, Kind: in.Kind}
	out.Response = &answer{UID: in.Request.UID}
	metadata := in.Request.Object.Metadata
	operations, err := patch(metadata.Labels, metadata.Annotations)
	if err == nil {
		out.Response.Allowed = true
		if operations != nil {
			out.Response.PatchType, out.Response.Patch = "JSONPatch", operations
		}
	}
	log.Printf(`{"uid":%q,"pod":%q,"allowed":%t}`, in.Request.UID, metadata.Name, err == nil)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

func main() {
	address := flag.String("address", "127.0.0.1:9443", "where to listen")
	certificate := flag.String("tls-cert", "", "certificate file")
	key := flag.String("tls-key", "", "key file")
	flag.Parse()
	http.HandleFunc("/mutate", mutate)
	log.Fatal(http.ListenAndServeTLS(*address, *certificate, *key, nil))
}
