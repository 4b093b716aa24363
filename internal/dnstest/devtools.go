package dnstest

import (
	"encoding/base64"
	"testing"
)

// Screen describes what a page is shown on.
type Screen struct {
	Width, Height int // in CSS pixels
	IsDark        bool
	HasForced     bool // the system forces its own few colours
}

// ShowOn shows all pages from now on as a browser with that screen does.
func (c *Chromium) ShowOn(t testing.TB, s Screen) {
	t.Helper()
	scheme, forced := "light", "none"
	if s.IsDark {
		scheme = "dark"
	}
	if s.HasForced {
		forced = "active"
	}
	c.ask(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": s.Width, "height": s.Height, "deviceScaleFactor": 1, "mobile": false})
	c.ask(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": scheme}, {"name": "forced-colors", "value": forced},
	}})
}

// Run runs JavaScript in the page, regardless of the page's policy, and returns the value of the expression; of a promise, the value it resolves to.
func (c *Chromium) Run(t testing.TB, expression string) any {
	t.Helper()
	answer := c.ask(t, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true})
	if failure, ok := answer["exceptionDetails"]; ok {
		t.Fatalf("dnstest: Chromium: %v", failure)
	}
	result, _ := answer["result"].(map[string]any)
	return result["value"]
}

// Screenshot returns a picture of the whole page, as PNG.
func (c *Chromium) Screenshot(t testing.TB) []byte {
	t.Helper()
	text, _ := c.ask(t, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true})["data"].(string)
	png, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return png
}

// DisableJavaScript keeps pages from running JavaScript. Run still works.
func (c *Chromium) DisableJavaScript(t testing.TB) {
	t.Helper()
	c.ask(t, "Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
}

// Press presses a key of the keyboard, such as "Tab" or "Enter".
func (c *Chromium) Press(t testing.TB, key string) {
	t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, " ": 32}
	texts := map[string]string{"Enter": "\r", " ": " "}
	for _, kind := range []string{"keyDown", "keyUp"} {
		params := map[string]any{"type": kind, "key": key, "windowsVirtualKeyCode": codes[key]}
		if kind == "keyDown" && texts[key] != "" {
			params["text"] = texts[key]
		}
		c.ask(t, "Input.dispatchKeyEvent", params)
	}
}

// Enter enters text into the element that has the focus.
func (c *Chromium) Enter(t testing.TB, text string) {
	t.Helper()
	c.ask(t, "Input.insertText", map[string]any{"text": text})
}
