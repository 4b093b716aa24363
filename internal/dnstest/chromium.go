package dnstest

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Chromium is a Chromium without a window, which the DevTools protocol controls. It is stopped at the end of the test. One goroutine at a time may use it.
type Chromium struct {
	out     *os.File
	in      chan []byte
	last    int
	session string
}

// StartChromium starts Chromium with a new profile, which has the settings state ("Local State") and trusts the certificate authority in the file ca.
func StartChromium(t testing.TB, ca string, state map[string]any, flags ...string) *Chromium {
	t.Helper()
	Need(t, "chromium")
	Need(t, "certutil")
	home := t.TempDir()
	database, profile := filepath.Join(home, ".pki", "nssdb"), filepath.Join(home, "profile")
	for _, dir := range []string{database, profile} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	trust(t, database, ca)
	text, err := json.Marshal(state)
	if err == nil {
		err = os.WriteFile(filepath.Join(profile, "Local State"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	theirIn, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("chromium", append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--user-data-dir=" + profile, "--remote-debugging-pipe"}, flags...)...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	StartPeer(t, cmd)
	theirIn.Close()
	theirOut.Close()
	c := &Chromium{out: out, in: make(chan []byte, 1000)}
	t.Cleanup(func() { out.Close(); in.Close() })
	go c.read(bufio.NewReader(in))
	target := c.ask(t, "Target.createTarget", map[string]any{"url": "about:blank"})["targetId"]
	c.session, _ = c.ask(t, "Target.attachToTarget", map[string]any{"targetId": target, "flatten": true})["sessionId"].(string)
	return c
}

// read passes on messages, which end with a zero byte, until the pipe is closed.
func (c *Chromium) read(in *bufio.Reader) {
	for {
		b, err := in.ReadBytes(0)
		if err != nil {
			close(c.in)
			return
		}
		c.in <- b[:len(b)-1]
	}
}

// Open loads a page.
func (c *Chromium) Open(t testing.TB, url string) (p Page) {
	t.Helper()
	if text, ok := c.ask(t, "Page.navigate", map[string]any{"url": url})["errorText"].(string); ok {
		p.Error = text
	}
	if p.Error != "" {
		return p
	}
	// An error page, and a page that is being loaded, appear some time after the answer.
	for end := time.Now().Add(3 * time.Second); (len(p.Text) < 3 || strings.Contains(p.Text, "DNS_PROBE_STARTED")) && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		result, _ := c.ask(t, "Runtime.evaluate", map[string]any{"expression": "document.readyState == 'complete' ? document.body.innerText : ''"})["result"].(map[string]any)
		p.Text, _ = result["value"].(string)
	}
	return p
}

// Type opens a URL as an address that a person typed, and returns when the browser has begun to show a page or an error.
func (c *Chromium) Type(t testing.TB, url string) {
	t.Helper()
	c.ask(t, "Page.navigate", map[string]any{"url": url, "transitionType": "typed"})
}

// Evaluate evaluates a JavaScript expression in the page, and returns its value as text; "" if the page is being replaced or the expression fails.
func (c *Chromium) Evaluate(t testing.TB, expression string) string {
	t.Helper()
	answer, _ := c.try(t, time.Second/2, "Runtime.evaluate", map[string]any{"expression": expression, "userGesture": true})
	result, _ := answer["result"].(map[string]any)
	text, _ := result["value"].(string)
	return text
}

// ask sends a command that must succeed, and returns its result.
func (c *Chromium) ask(t testing.TB, method string, params any) map[string]any {
	t.Helper()
	result, failure := c.try(t, 2*time.Minute, method, params)
	if failure != nil {
		t.Fatalf("dnstest: Chromium: %s: %v", method, failure)
	}
	return result
}

// try sends a command, and returns its result or its failure. Some commands get no answer if the page is replaced meanwhile.
func (c *Chromium) try(t testing.TB, patience time.Duration, method string, params any) (result map[string]any, failure any) {
	t.Helper()
	c.last++
	request := map[string]any{"id": c.last, "method": method, "params": params}
	if c.session != "" {
		request["sessionId"] = c.session
	}
	b, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.out.Write(append(b, 0)); err != nil {
		t.Fatalf("dnstest: Chromium: %v", err)
	}
	end := time.After(patience)
	for {
		select {
		case b, ok := <-c.in:
			if !ok {
				t.Fatalf("dnstest: Chromium ended before it answered %s", method)
			}
			var answer struct {
				ID     int
				Result map[string]any
				Error  any
			}
			if err := json.Unmarshal(b, &answer); err != nil {
				t.Fatal(err)
			}
			if answer.ID != c.last {
				continue
			}
			return answer.Result, answer.Error
		case <-end:
			return nil, "no answer"
		}
	}
}
