package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var placeholder = regexp.MustCompile(`\{(dir|port|addr|addrat|upstream\w*|list|zone|cache)\}`)

// TestConfigurationsHaveNoPlaceholders checks that no placeholder in braces is left in a configuration after its values are filled in.
func TestConfigurationsHaveNoPlaceholders(t *testing.T) {
	paths := map[string]string{"rec_control": "/usr/bin/rec_control"}
	for _, p := range peers {
		paths[p.program] = "/usr/bin/" + p.program
	}
	dir := t.TempDir()
	s := setup{dir: dir, shared: dir, list: "/l/list.txt", zone: "/l/list.rpz", upstream: endpoints{addr: "127.0.0.1:5301"}, paths: paths}
	for _, p := range peers {
		run, forget, err := s.prepare(p, p.key, "127.0.0.1:5300", "EXTRA=1")
		if err != nil {
			t.Fatal(err)
		}
		texts := append(append(append([]string{run.path}, run.args...), run.env...), forget...)
		for file := range p.files {
			b, err := os.ReadFile(run.dir + "/" + file)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(b))
		}
		all := strings.Join(texts, "\n")
		if left := placeholder.FindAllString(all, -1); left != nil {
			t.Errorf("%s: the placeholders %v are left", p.key, left)
		}
		wanted := []string{"5300", "5301", "/l/list"}
		if p.key == echo {
			wanted = wanted[:1]
		}
		for _, want := range wanted {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no %s in\n%s", p.key, want, all)
			}
		}
	}
}
