package portal

import (
	"io"
	"net/http"

	"rempart/internal/statistics"
)

// shownDays is the number of days of the statistics that the portal serves.
const shownDays = 400

// serveCSV serves the statistics as CSV.
func (p *Portal) serveCSV(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", `</statistics-schema.json>; rel="describedby"; type="application/json"`)
	p.serveStatistics(w, "text/csv; charset=utf-8; header=present", statistics.WriteCSV)
}

// serveJSON serves the statistics as JSON.
func (p *Portal) serveJSON(w http.ResponseWriter, _ *http.Request) {
	p.serveStatistics(w, "application/json", statistics.WriteJSON)
}

// serveSchema serves the description of the CSV.
func (p *Portal) serveSchema(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_, _ = io.WriteString(w, statistics.Schema) // the reader closed the connection
}

func (p *Portal) serveStatistics(w http.ResponseWriter, mediaType string, write func(io.Writer, []statistics.Row) error) {
	rows, err := statistics.Read(p.config.Statistics, shownDays)
	if err != nil {
		http.Error(w, "the statistics cannot be read: try again later", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Access-Control-Allow-Origin", "*") // open data: any page may read it
	_ = write(w, rows)                                 // the reader closed the connection
}
