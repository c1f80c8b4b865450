// Command backend answers each request with what net/http has understood of it, over HTTP/1 and
// HTTP/2 with prior knowledge, on a Unix socket.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: backend SOCKET LOG")
		os.Exit(2)
	}
	if err := answer(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(socket, log string) error {
	told, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	var lock sync.Mutex
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return // the request was never whole
		}
		lock.Lock()
		fmt.Fprintf(told, "200 %s %s\n", r.Method, r.RequestURI)
		lock.Unlock()
		fmt.Fprintf(w, "%s %s %d\n", r.Method, r.RequestURI, size)
	})
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	fmt.Println(socket)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:                      handler,
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true, // OPTIONS * is a request like others
	}
	return server.Serve(listener)
}
