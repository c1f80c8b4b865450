// The Gateway API's own conformance tests as one program.
//
// The module offers them as a function that takes a *testing.T; testing.Main gives it one, so
// that the program is built like our others and takes the flags of both.
package main

import (
	"regexp"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func main() {
	tests := []testing.InternalTest{{Name: "TestConformance", F: func(t *testing.T) {
		conformance.RunConformance(t)
	}}}
	testing.Main(func(pattern, name string) (bool, error) {
		return regexp.MatchString(pattern, name)
	}, tests, nil, nil)
}
