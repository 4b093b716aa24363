package statistics

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
)

// Licence is the licence under which the statistics are published.
const Licence = "Licence Ouverte 2.0, https://www.etalab.gouv.fr/licence-ouverte-open-licence/"

// Schema describes the columns of the CSV (Table Schema of Frictionless Data).
const Schema = `{
  "name": "rempart-statistics",
  "title": "Statistics of a protective DNS filter",
  "description": "One row per day and number. Numbers of what clients did are rounded down to a multiple of the least count of the server, and empty below it. They contain no queried name and no client.",
  "licenses": [{"name": "etalab-2.0", "title": "Licence Ouverte 2.0", "path": "https://www.etalab.gouv.fr/licence-ouverte-open-licence/"}],
  "fields": [
    {"name": "date", "type": "date", "description": "The day, in UTC.", "constraints": {"required": true}},
    {"name": "measure", "type": "string", "description": "What is counted: queries; blocked_by_category, blocked_by_list and blocked_by_policy, the blocked queries (a query is counted for each list that contains the name); set_names, the names in the set; list_entries and list_growth, the entries of a list and their change on that day; appeals_filed, appeals_upheld and appeals_rejected, the stored requests for a review; appeals_median_hours, the median time from a request to its decision.", "constraints": {"required": true, "enum": ["queries", "blocked_by_category", "blocked_by_list", "blocked_by_policy", "set_names", "list_entries", "list_growth", "appeals_filed", "appeals_upheld", "appeals_rejected", "appeals_median_hours"]}},
    {"name": "key", "type": "string", "description": "The category, the list or the policy, if the measure has one."},
    {"name": "value", "type": "integer", "description": "The number. Empty if it is suppressed."}
  ],
  "primaryKey": ["date", "measure", "key"],
  "missingValues": [""]
}
`

// WriteCSV writes rows as CSV (RFC 4180), as Schema describes them.
func WriteCSV(w io.Writer, rows []Row) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	_ = c.Write([]string{"date", "measure", "key", "value"}) // Error returns its error
	for _, r := range rows {
		value := ""
		if r.Value != nil {
			value = strconv.FormatInt(*r.Value, 10)
		}
		_ = c.Write([]string{r.Date, r.Measure, safe(r.Key), value})
	}
	c.Flush()
	return c.Error()
}

// safe returns text that no spreadsheet takes for a formula.
func safe(text string) string {
	if text != "" && (text[0] == '=' || text[0] == '+' || text[0] == '-' || text[0] == '@') {
		return "'" + text
	}
	return text
}

// WriteJSON writes rows as one JSON object.
func WriteJSON(w io.Writer, rows []Row) error {
	return json.NewEncoder(w).Encode(struct {
		Licence string `json:"licence"`
		Rows    []Row  `json:"rows"`
	}{Licence, rows})
}
