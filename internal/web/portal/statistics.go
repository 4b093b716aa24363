package portal

import (
	"bytes"
	"net/http"
	"time"

	"rempart/internal/statistics"
)

// serveCSV serves the statistics as CSV.
func (p *Portal) serveCSV(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", `</statistics-schema.json>; rel="describedby"; type="application/json"`)
	data, changed, err := p.statistics.CSV()
	serveStatistics(w, r, "text/csv; charset=utf-8; header=present", data, changed, err)
}

// serveJSON serves the statistics as JSON.
func (p *Portal) serveJSON(w http.ResponseWriter, r *http.Request) {
	data, changed, err := p.statistics.JSON()
	serveStatistics(w, r, "application/json", data, changed, err)
}

// serveSchema serves the description of the CSV.
func (p *Portal) serveSchema(w http.ResponseWriter, r *http.Request) {
	serveStatistics(w, r, "application/json", []byte(statistics.Schema), time.Time{}, nil)
}

func serveStatistics(w http.ResponseWriter, r *http.Request, mediaType string, data []byte, changed time.Time, err error) {
	if err != nil {
		http.Error(w, "the statistics cannot be read: try again later", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Access-Control-Allow-Origin", "*") // open data: any page may read it
	http.ServeContent(w, r, "", changed, bytes.NewReader(data))
}
