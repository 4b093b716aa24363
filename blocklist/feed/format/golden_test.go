package format

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
)

var update = flag.Bool("update", false, "write the golden files")

// full is a transcript with all fields of a listing: "3 =evil.example malware since 2024-09-01".
type full struct{ transcript }

func (s *full) Add(line int, l blocklist.Listing) {
	s.transcript.Add(line, l)
	text := fmt.Sprintf("%d %s", line, s.lines[len(s.lines)-1])
	if l.Category != 0 {
		text += " " + l.Category.String()
	}
	for _, t := range []struct {
		what string
		at   int64
	}{{"since", l.Since}, {"start", l.Start}, {"expiry", l.Expiry}} {
		if t.at != 0 {
			text += " " + t.what + " " + strings.TrimSuffix(time.Unix(t.at, 0).UTC().Format("2006-01-02T15:04:05"), "T00:00:00")
		}
	}
	s.lines[len(s.lines)-1] = text
}

func (s *full) Refuse(line int, why Reason) {
	s.lines = append(s.lines, fmt.Sprintf("%d !%v", line, why))
}

func readFull(t *testing.T, opt Options, list string) []string {
	t.Helper()
	s := &full{transcript{t: t}}
	if _, err := Parse(strings.NewReader(list), opt, s); err != nil {
		s.lines = append(s.lines, "error: "+err.Error())
	}
	return s.lines
}

// TestGolden reads parts of real feeds, both with a detected and with a configured format.
func TestGolden(t *testing.T) {
	tests := map[string]Format{
		"blackbook.csv": CSV, "stalkerware.csv": CSV, "urlhaus-reshaped.csv": CSV, "openphish-reshaped.csv": CSV,
		"discord.json": JSON, "stalkerware-misp.json": MISP, "misp-event.json": MISP,
		"pegasus.stix2": STIX, "poisonivy.json": STIX, "medallion-envelope.json": TAXII,
	}
	for name, format := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(readFull(t, Options{}, string(content)), "\n") + "\n"
			if *update {
				if err := os.WriteFile(path+".golden", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			declared := strings.Join(readFull(t, Options{Format: format}, string(content)), "\n") + "\n"
			if diff := cmp.Diff(string(want), declared); diff != "" {
				t.Errorf("as %s (-want +got)\n%s", format, diff)
			}
			crlf := bytes.ReplaceAll(content, []byte("\n"), []byte("\r\n"))
			if diff := cmp.Diff(string(want), strings.Join(readFull(t, Options{}, "\ufeff"+string(crlf)), "\n")+"\n"); diff != "" {
				t.Errorf("with BOM and CRLF (-want +got)\n%s", diff)
			}
		})
	}
}
