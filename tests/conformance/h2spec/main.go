// Command h2spec runs the conformance suite of github.com/summerwind/h2spec, or serves what the
// suite asks for.
//
// The suite's own command is a package main, which no module can import; this one calls the
// same function with the settings that our tests use.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

func main() {
	host := flag.String("h", "127.0.0.1", "host of the server")
	port := flag.Int("p", 0, "port of the server")
	path := flag.String("P", "/", "path that answers with at least one byte")
	timeout := flag.Int("o", 3, "seconds to wait for an answer")
	report := flag.String("j", "", "file for the JUnit report")
	verbose := flag.Bool("v", false, "print frames")
	serve := flag.Bool("serve", false, "answer HTTP/2 with prior knowledge, and print the port")
	flag.Parse()

	if *serve {
		if err := answer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		return
	}
	settings := &config.Config{
		Host:         *host,
		Port:         *port,
		Path:         *path,
		Timeout:      time.Duration(*timeout) * time.Second,
		MaxHeaderLen: 4000,
		JUnitReport:  *report,
		Verbose:      *verbose,
		Sections:     flag.Args(),
	}
	success, err := h2spec.Run(settings)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !success {
		os.Exit(1)
	}
}

// answer reads every request to its end and answers with a body and a trailer.
func answer() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Size")
		fmt.Fprintf(w, "%s %s took %d bytes\n", r.Method, r.URL.Path, size)
		w.Header().Set("X-Size", fmt.Sprint(size))
	})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return (&http.Server{Handler: handler, Protocols: protocols}).Serve(listener)
}
