package clientsetup

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"regexp"
	"strings"
	"testing"
)

// picture draws the text of a terminal, with white where nothing is drawn.
func picture(t *testing.T, text string) []byte {
	t.Helper()
	const scale = 4
	lines := strings.Split(regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(text, ""), "\n")
	width := len([]rune(lines[0]))
	img := image.NewGray(image.Rect(0, 0, width*scale, 2*len(lines)*scale))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	fill := func(x, y int) {
		for dx := range scale {
			for dy := range scale {
				img.SetGray(x*scale+dx, y*scale+dy, color.Gray{})
			}
		}
	}
	for y, line := range lines {
		for x, c := range []rune(line) {
			if c == '█' || c == '▀' {
				fill(x, 2*y)
			}
			if c == '█' || c == '▄' {
				fill(x, 2*y+1)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestQRCodeIsRead reads QR codes from a picture of the terminal, with zbar.
func TestQRCodeIsRead(t *testing.T) {
	const link = "https://isp.example/rempart.mobileconfig?from=qr&lang=fr"
	for _, tt := range []struct {
		name, want string
		change     func(*Service)
	}{
		{"Android", "dns.example", nil},
		{"HTTPS only", "https://dns.example/dns-query", func(s *Service) { s.TLSPort = 0 }},
		{"TLS on another port", "https://dns.example:8443/dns-query", unusual},
		{"a link", link, func(s *Service) { s.Link = link }},
		{"a long name", strings.Repeat("long-label.", 20) + "example", func(s *Service) { s.Name = strings.Repeat("long-label.", 20) + "example" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code := text(t, "qr", tt.change)
			drawn, below, found := strings.Cut(code, "The code contains: ")
			if !found || !strings.HasPrefix(below, tt.want+"\n") {
				t.Errorf("the text below the code is %q", below)
			}
			path := file(t, "code.png", string(picture(t, strings.TrimSuffix(drawn, "\n"))))
			if got := output(t, "zbarimg", "--quiet", "--raw", path); !strings.HasSuffix("\n"+got, "\n"+tt.want+"\n") { // without D-Bus, a warning comes first
				t.Errorf("the code contains %q, want %q", got, tt.want)
			}
		})
	}
}
