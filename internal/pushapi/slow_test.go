package pushapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"rempart/internal/pushapi"
)

// TestSlowBodyWithoutTokenIsEnded checks that a caller without a token who sends a body one byte at a time soon gets an answer, and that the connection ends.
func TestSlowBodyWithoutTokenIsEnded(t *testing.T) {
	t.Parallel()
	f := start(t, setting{})
	head := func(request, mediaType string) string {
		return request + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + mediaType + "\r\nContent-Length: 30000\r\n\r\n"
	}
	for what, c := range map[string]struct {
		request string
		most    time.Duration
	}{
		"order":           {head("POST /v1/tokens", pushapi.TypeOrder), 15 * time.Second},
		"order, untyped":  {head("POST /v1/tokens", "text/plain"), 5 * time.Second},
		"upload":          {head("POST /v1/changesets", pushapi.TypeNDJSON), 5 * time.Second},
		"act":             {head("POST /v1/suspend", pushapi.TypeJSON), 5 * time.Second},
		"document":        {head("GET /openapi.json", pushapi.TypeJSON), 5 * time.Second},
		"no such path":    {head("POST /v1/none", pushapi.TypeJSON), 5 * time.Second},
		"question, typed": {head("GET /v1/nodes", pushapi.TypeJSON), 5 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c2, err := net.Dial("tcp", f.srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c2.Close()
			begun := time.Now()
			_ = c2.SetReadDeadline(begun.Add(c.most))
			fmt.Fprint(c2, c.request)
			go func() { // sends one byte at a time
				for time.Since(begun) < c.most {
					if _, err := c2.Write([]byte("x")); err != nil {
						return
					}
					time.Sleep(200 * time.Millisecond)
				}
			}()
			answer, err := io.ReadAll(c2)
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() || !bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) {
				t.Errorf("after %v: %v %.200s", time.Since(begun), err, answer)
			}
		})
	}
}
