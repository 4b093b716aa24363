package portal

import (
	"net/http"
	"strings"

	"rempart/internal/web/layout"
)

// Devices is what readers need to use this server on their devices.
type Devices struct {
	Name      string                 // of the server, for DNS over TLS on its usual port; "" if it is not served
	URL       string                 // of DNS over HTTPS; "" if it is not served
	Addresses []string               // of unencrypted DNS; empty if other machines cannot reach it
	Windows   string                 // commands, one per line; "" if they are not possible
	Profile   func() ([]byte, error) // returns the profile for Apple's devices; nil without one
}

// devicesContent is the data of the template.
type devicesContent struct {
	Devices
	Joined   string // the addresses in one line
	HasApple bool
	Code     string // data of the SVG path of a QR code of this page
	Size     int
}

// serveDevices serves the settings of devices.
func (p *Portal) serveDevices(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	c := devicesContent{Devices: p.config.Devices()}
	c.Joined, c.HasApple = strings.Join(c.Addresses, ", "), c.Profile != nil
	if p.config.QRCode != nil {
		c.Code, c.Size, _ = p.config.QRCode(reached(r) + "/devices") // too long for a code: the page has none
	}
	p.write(w, r, lang, "devices", layout.Page{Status: http.StatusOK, Title: lang.Devices.Title, Data: c})
}

// serveProfile serves the profile for Apple's devices.
func (p *Portal) serveProfile(w http.ResponseWriter, r *http.Request) {
	d := p.config.Devices()
	if d.Profile == nil {
		http.NotFound(w, r)
		return
	}
	profile, err := d.Profile()
	if err != nil {
		lang := p.config.Site.Language(r)
		p.writeMessage(w, r, lang, http.StatusServiceUnavailable, lang.Devices.Title, lang.Portal.Unsure)
		return
	}
	w.Header().Set("Content-Type", "application/x-apple-aspen-config")
	w.Header().Set("Content-Disposition", `attachment; filename="rempart.mobileconfig"`)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(profile) // the reader closed the connection
}

// serveConnection serves the page at which the check of the connection begins.
func (p *Portal) serveConnection(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	p.write(w, r, lang, "connection", layout.Page{Status: http.StatusOK, Title: lang.Connection.Title, Data: p.config.Check(lang.Tag)})
}
