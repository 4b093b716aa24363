package pushapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files anew")

// TestDocument checks that the API's document is equal to the golden file and complete.
func TestDocument(t *testing.T) {
	f := start(t, setting{idle: true})
	a := f.get(t, "", "/openapi.json")
	if a.status != http.StatusOK {
		t.Fatalf("GET /openapi.json: %s, want status 200", a)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, a.body, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, indented.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), indented.String()); diff != "" {
		t.Errorf("the document differs from the golden file, which go test -update rewrites (-want +got):\n%s", diff)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID, Summary, Description string
			Security                          []map[string][]string
			Responses                         map[string]struct{ Content map[string]any }
			RequestBody                       struct{ Content map[string]any }
		}
		Components struct {
			SecuritySchemes map[string]any
			Schemas         map[string]struct {
				Properties map[string]struct {
					Ref         string `json:"$ref"`
					Description string
				}
			}
		}
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || len(doc.Components.SecuritySchemes) != 2 {
		t.Errorf("OpenAPI %s with %d security schemes, want 3.1 with 2", doc.OpenAPI, len(doc.Components.SecuritySchemes))
	}
	operations := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations++
			open := path == "/v1/tokens" && method == "post"
			wants := []string{"429", "503"}
			if !open {
				wants = append(wants, "401", "403")
			}
			for _, status := range wants {
				if op.Responses[status].Content["application/problem+json"] == nil {
					t.Errorf("%s %s does not document status %s", method, path, status)
				}
			}
			if op.Summary == "" || !strings.Contains(op.Description, "Role: ") && !open || len(op.Security) != 2 && !open {
				t.Errorf("%s %s has no summary, no role or no security scheme", method, path)
			}
		}
	}
	if operations != 22 {
		t.Errorf("%d operations, want 22", operations)
	}
	if n := len(doc.Paths["/v1/changesets"]["post"].RequestBody.Content); n != 4 {
		t.Errorf("%d media types of change sets, want 4", n)
	}
	for name, schema := range doc.Components.Schemas {
		for field, property := range schema.Properties {
			if strings.HasPrefix(name, "Error") || property.Ref != "" { // those of huma; the referenced schema has the description
				continue
			}
			if !strings.HasSuffix(property.Description, ".") {
				t.Errorf("%s.%s: description %q, want a sentence", name, field, property.Description)
			}
		}
	}
	for _, elsewhere := range []string{`"$schema"`, `"externalDocs"`, `"servers"`, `"$ref": "h`} {
		if strings.Contains(indented.String(), elsewhere) {
			t.Errorf("the document refers to another document by %s", elsewhere)
		}
	}
	if docs := f.get(t, "", "/docs"); docs.status != http.StatusNotFound {
		t.Errorf("/docs, which would load files from other sites: status %d, want 404", docs.status)
	}
	if yaml := f.get(t, "", "/openapi.yaml"); yaml.status != http.StatusOK {
		t.Errorf("GET /openapi.yaml: %s, want status 200", yaml)
	}
}
