package clientsetup

import (
	"fmt"
	"image"
	"image/color"
	"strings"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

// qrCode returns a QR code for a terminal, and says below it what the code contains. No scheme of URLs configures DNS on a phone: Android's setting takes the
// host name, which the camera offers to copy, and an iPhone installs a profile from a web page, whose URL is Service.Link.
func qrCode(s *Service) (string, error) {
	content, use := s.Link, "Open the link on the phone."
	switch {
	case content != "":
	case s.needUsualTLS() == nil:
		content, use = s.Name, "Android: copy the text, and paste it in Settings, Network & internet, Private DNS."
	case s.needHTTPS() == nil:
		content, use = s.URL(), "Copy the text into an app or a browser that asks for the URL of DNS over HTTPS."
	default:
		return "", s.needUsualTLS()
	}
	code, err := qr.Encode(content, qr.M, qr.Auto)
	if err != nil {
		return "", fmt.Errorf("a QR code of %q: %w", content, err)
	}
	return blocks(code) + fmt.Sprintf("The code contains: %s\n%s\n", content, use), nil
}

// QRPath returns a QR code as the data of an SVG path in a square of size units, one unit per module, with the white border that readers need.
func QRPath(content string) (data string, size int, err error) {
	code, err := qr.Encode(content, qr.M, qr.Auto)
	if err != nil {
		return "", 0, fmt.Errorf("a QR code of %q: %w", content, err)
	}
	var b strings.Builder
	area := code.Bounds()
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			if isDark(code, x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x-area.Min.X+quiet, y-area.Min.Y+quiet)
			}
		}
	}
	return b.String(), area.Dx() + 2*quiet, nil
}

// isDark reports whether a module of a code is dark. The border is not.
func isDark(code barcode.Barcode, x, y int) bool {
	if !(image.Point{X: x, Y: y}).In(code.Bounds()) {
		return false
	}
	return color.Gray16Model.Convert(code.At(x, y)) == color.Gray16Model.Convert(color.Black)
}

// quiet is the width of the white border that readers need, in modules (ISO/IEC 18004).
const quiet = 4

// blocks draws a code with two modules per character, one above the other, black on white whatever the colours of the terminal are.
func blocks(code barcode.Barcode) string {
	size := code.Bounds()
	var b strings.Builder
	for y := size.Min.Y - quiet; y < size.Max.Y+quiet; y += 2 {
		b.WriteString("\x1b[38;5;16;48;5;231m")
		for x := size.Min.X - quiet; x < size.Max.X+quiet; x++ {
			switch upper, lower := isDark(code, x, y), isDark(code, x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String()
}
