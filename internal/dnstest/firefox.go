package dnstest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Page is what a browser shows.
type Page struct {
	Error string // the browser's name of the error, "" if the page was loaded
	Text  string
}

// Firefox is a Firefox without a window, which Marionette controls. It is stopped at the end of the test. One goroutine at a time may use it.
type Firefox struct {
	conn net.Conn
	in   *bufio.Reader
	last int
}

// StartFirefox starts Firefox with a new profile, which has the preferences prefs and trusts the certificate authority in the file ca.
func StartFirefox(t testing.TB, ca string, prefs map[string]any) *Firefox {
	t.Helper()
	Need(t, "firefox-esr")
	Need(t, "certutil")
	home := t.TempDir()
	profile := filepath.Join(home, "profile")
	if err := os.Mkdir(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	trust(t, profile, ca)
	port := FreeAddr(t)
	_, number, _ := net.SplitHostPort(port)
	lines := "user_pref(\"marionette.port\", " + number + ");\n"
	for name, value := range prefs {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		lines += fmt.Sprintf("user_pref(%q, %s);\n", name, text)
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("firefox-esr", "--headless", "--no-remote", "--profile", profile, "--marionette", "--remote-allow-system-access")
	cmd.Env = append(os.Environ(), "HOME="+home)
	p := StartPeer(t, cmd)
	f := &Firefox{}
	p.Answers(t, func() bool {
		conn, err := net.Dial("tcp", port)
		if err == nil {
			f.conn, f.in = conn, bufio.NewReader(conn)
		}
		return err == nil
	})
	t.Cleanup(func() { f.conn.Close() })
	if _, err := f.receive(); err != nil { // the greeting
		t.Fatal(err)
	}
	f.command(t, "WebDriver:NewSession", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"timeouts": map[string]any{"pageLoad": 60000}}}})
	return f
}

// trust makes the NSS database in dir trust a certificate authority for servers.
func trust(t testing.TB, dir, ca string) {
	t.Helper()
	if out, err := exec.Command("certutil", "-N", "-d", "sql:"+dir, "--empty-password").CombinedOutput(); err != nil {
		t.Fatalf("dnstest: creating an NSS database: %v\n%s", err, out)
	}
	if out, err := exec.Command("certutil", "-A", "-d", "sql:"+dir, "-n", "ca", "-t", "C,,", "-i", ca).CombinedOutput(); err != nil {
		t.Fatalf("dnstest: adding %s to an NSS database: %v\n%s", ca, err, out)
	}
}

// Open loads a page.
func (f *Firefox) Open(t testing.TB, url string) (p Page) {
	t.Helper()
	_, failure := f.ask(t, "WebDriver:Navigate", map[string]any{"url": url})
	if failure != "" {
		if _, rest, ok := strings.Cut(failure, "about:neterror?e="); ok {
			p.Error, _, _ = strings.Cut(rest, "&")
		} else {
			p.Error = failure
		}
	}
	value, failure := f.ask(t, "WebDriver:ExecuteScript", map[string]any{"script": "return document.body.innerText", "args": []any{}})
	if failure != "" {
		value = failure
	}
	p.Text = value
	return p
}

// Type enters text into the address bar, as a person does, and confirms it. It does not wait.
func (f *Firefox) Type(t testing.TB, text string) {
	t.Helper()
	f.command(t, "Marionette:SetContext", map[string]any{"value": "chrome"})
	f.command(t, "WebDriver:ExecuteScript", map[string]any{"script": "gURLBar.focus(); gURLBar.value = arguments[0]; gURLBar.handleCommand()", "args": []any{text}})
	f.command(t, "Marionette:SetContext", map[string]any{"value": "content"})
}

// Evaluate evaluates a JavaScript expression in the page, and returns its value as text; "" if the page is being replaced or the expression fails.
func (f *Firefox) Evaluate(t testing.TB, expression string) string {
	t.Helper()
	value, failure := f.ask(t, "WebDriver:ExecuteScript", map[string]any{"script": "return " + expression, "args": []any{}})
	if failure != "" || value == "<nil>" {
		return ""
	}
	return value
}

// command sends a command that must succeed.
func (f *Firefox) command(t testing.TB, name string, args any) {
	t.Helper()
	if _, failure := f.ask(t, name, args); failure != "" {
		t.Fatalf("dnstest: Firefox: %s: %s", name, failure)
	}
}

// ask sends a command and returns its value, or the message of its failure.
func (f *Firefox) ask(t testing.TB, name string, args any) (value, failure string) {
	t.Helper()
	f.last++
	request, err := json.Marshal([]any{0, f.last, name, args})
	if err != nil {
		t.Fatal(err)
	}
	_ = f.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := fmt.Fprintf(f.conn, "%d:%s", len(request), request); err != nil {
		t.Fatal(err)
	}
	answer, err := f.receive()
	if err != nil {
		t.Fatal(err)
	}
	var parts []json.RawMessage
	var wrong struct{ Message string }
	var right struct{ Value any }
	if err := json.Unmarshal(answer, &parts); err != nil || len(parts) != 4 {
		t.Fatalf("dnstest: Firefox sent %s, %v", answer, err)
	}
	if err := json.Unmarshal(parts[2], &wrong); err == nil && wrong.Message != "" {
		return "", wrong.Message
	}
	_ = json.Unmarshal(parts[3], &right) // some answers are no objects
	return fmt.Sprint(right.Value), ""
}

// receive reads a message: its length, a colon and JSON.
func (f *Firefox) receive() ([]byte, error) {
	text, err := f.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, ":"))
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(f.in, b)
	return b, err
}
