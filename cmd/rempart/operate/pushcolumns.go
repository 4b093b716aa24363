package operate

import (
	"encoding/json"
	"slices"
	"strings"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// column is a column of a table of changes.
type column struct {
	field string        // the field of a change; "" if the column is ignored, or may contain a category
	as    format.Column // the meaning of the column in lists
}

// fieldOf returns the field of a change that is meant by the title of a table's column, or by the key of a JSON object; "" if none. title may be the name of the
// field, or a title that lists use for a column of names, categories or reasons.
func fieldOf(title string) string {
	if lower := strings.ToLower(title); slices.Contains(strings.Split(changeset.Columns, ", "), lower) {
		return lower
	}
	switch c := format.ColumnOf(title); {
	case c.IsName():
		return "name"
	case c.IsCategory():
		return "category"
	case c.IsReason():
		return "reason"
	}
	return ""
}

// columns returns the meaning of each column of a table from the titles. It ignores unknown columns, because other programs export more columns, and calls n.note
// for each. If several columns mean the same field (except the name), it uses the column that is titled like the field, or else the first.
func (n *normalizer) columns(titles []string) ([]column, error) {
	head := make([]column, len(titles))
	at := map[string]int{} // by field
	var taken []string
	for i, title := range titles {
		title = strings.TrimSpace(title)
		field := fieldOf(title)
		head[i] = column{field, format.ColumnOf(title)}
		before, again := at[field]
		exact := strings.EqualFold(title, field)
		switch {
		case field == "":
		case field == "name", again && exact && strings.EqualFold(strings.TrimSpace(titles[before]), field):
			taken = append(taken, field) // ReadColumns returns an error for a duplicate
		case again && !exact:
			head[i] = column{}
		case again:
			head[before] = column{}
			at[field] = i
		default:
			at[field] = i
			taken = append(taken, field)
		}
	}
	if _, err := changeset.ReadColumns(taken, format.Grammar{}); err != nil {
		return nil, err
	}
	for i, c := range head {
		if c.field == "" && !c.as.IsThreat() {
			n.note(strings.TrimSpace(titles[i]))
		}
	}
	return head, nil
}

// cells returns the fields of a row. An empty cell sets no field.
func (n *normalizer) cells(head []column, row []string) (map[string]json.RawMessage, error) {
	values := map[string]any{}
	var threats format.Threats
	benign := "" // the text of the first cell that says that the name is benign
	for i, cell := range row {
		if cell = strings.TrimSpace(cell); cell == "" {
			continue
		}
		switch field := head[i].field; field {
		case "countries", "operators":
			values[field] = strings.Fields(cell)
		case "category":
			values[field] = categoryOf(cell)
		case "":
			if head[i].as.IsThreat() {
				threats.Add(head[i].as, cell)
			}
			if benign == "" && threats.AreBenign() {
				benign = cell
			}
		default:
			values[field] = cell
		}
	}
	fields := map[string]json.RawMessage{}
	for field, value := range values {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[field] = text
	}
	if _, ok := fields["category"]; !ok {
		if err := n.threat(fields, &threats, benign); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// threat sets the category according to the columns of threats. If a cell says that the name is benign, but the row blocks the name,
// the text of the cell becomes the category, so that control refuses the row.
func (n *normalizer) threat(fields map[string]json.RawMessage, threats *format.Threats, benign string) (err error) {
	category, ok := threats.Category()
	switch {
	case benign != "" && n.blocks(fields):
		fields["category"], err = json.Marshal(benign)
	case ok && benign == "":
		fields["category"], err = json.Marshal(category.String())
	}
	return err
}

// blocks reports whether a change blocks a name.
func (n *normalizer) blocks(fields map[string]json.RawMessage) bool {
	act := fields["do"]
	if act == nil {
		act = n.defaults["do"]
	}
	var do journal.Act
	return json.Unmarshal(act, &do) != nil || do == journal.Block
}

// categoryOf returns the name of the category in a cell, as in lists: "hameçonnage" is phishing. A cell without a category is returned unchanged, and control
// refuses the change.
func categoryOf(cell string) string {
	if c, ok := blocklist.ParseCategory(strings.ToLower(cell)); ok {
		return c.String()
	}
	var threats format.Threats
	threats.Add(format.ColumnOf("category"), cell)
	if c, ok := threats.Category(); ok && !threats.AreBenign() {
		return c.String()
	}
	return cell
}

// renameKeys gives the fields of a change in an object the names of the API, and reports whether it changed anything. If two keys mean the same field, neither
// is renamed, and control refuses the change.
func renameKeys(fields map[string]json.RawMessage) (changed bool) {
	held := map[string]int{} // number of keys per field
	for key := range fields {
		held[fieldOf(key)]++
	}
	for key, value := range fields {
		field := fieldOf(key)
		if field == "" || held[field] > 1 {
			continue
		}
		if !strings.EqualFold(key, field) {
			delete(fields, key)
			fields[field], changed = value, true
		}
		var text string
		if field != "category" || json.Unmarshal(value, &text) != nil {
			continue
		}
		if category := categoryOf(text); category != text {
			fields[field], _ = json.Marshal(category) // a string can always be encoded
			if key != field {
				delete(fields, key)
			}
			changed = true
		}
	}
	return changed
}
