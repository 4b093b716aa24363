package format

import (
	"fmt"
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	tests := []struct{ pattern, want string }{
		{"[domain-name:value = 'a.example']", "domain a.example"},
		{"[domain-name:value='a.example']", "domain a.example"},
		{" [ domain-name:value = 'a.example' OR url:value = 'http://b.example/' ] ", "domain a.example, url http://b.example/"},
		{"[domain-name:value = 'a'] OR [domain-name:value = 'b']", "domain a, domain b"},
		{"([(domain-name:value = 'a')] OR ([domain-name:value = 'b']))", "domain a, domain b"},
		{"[domain-name:value IN ('a', 'b','c')]", "domain a, domain b, domain c"},
		{`[url:value = 'it\'s \\ it']`, `url it's \ it`},
		{"[url:value = 'a] OR [b']", "url a] OR [b"},
		{"[domain-name:value = '']", "domain "},
		{"[domain-name:value = 'a' OR ipv4-addr:value = '192.0.2.1']", "domain a, other 192.0.2.1"},
		{"[file:hashes.'SHA-256' = 'ff' OR file:size = 12 OR file:size IN (1, -2.5)]", "other ff, other 12, other 1, other -2.5"},
		{"[domain-name:value LIKE '%.example']", "other %.example"},
		{"[domain-name:value MATCHES 'x' OR domain-name:value = 'a']", "other x, domain a"},
		{"", "refused"},
		{"[]", "refused"},
		{"domain-name:value = 'a'", "refused"},
		{"[domain-name:value = 'a'", "refused"},
		{"[domain-name:value = 'a]", "refused"},
		{`[domain-name:value = 'a\']`, "refused"},
		{`[domain-name:value = 'a\x']`, "refused"},
		{"[domain-name:value = a.example]", "refused"},
		{"[domain-name:value = 'a' AND domain-name:value = 'b']", "refused"},
		{"[domain-name:value = 'a' AND ipv4-addr:value = '192.0.2.1'] OR [url:value = 'b']", "refused"},
		{"[domain-name:value = 'a'] AND [domain-name:value = 'b']", "refused"},
		{"[domain-name:value = 'a'] FOLLOWEDBY [domain-name:value = 'b']", "refused"},
		{"[domain-name:value = 'a'] WITHIN 5 SECONDS", "refused"},
		{"[domain-name:value = 'a'] REPEATS 5 TIMES", "refused"},
		{"[NOT domain-name:value = 'a']", "refused"},
		{"[domain-name:value NOT = 'a']", "refused"},
		{"[domain-name:value != 'a']", "refused"},
		{"[domain-name:value > 'a']", "refused"},
		{"[EXISTS domain-name:value]", "refused"},
		{"[domain-name:value IN ('a',)]", "refused"},
		{"[domain-name:value IN 'a']", "refused"},
		{"[domain-name:value.'x' = 'a']", "other a"},
		{"[domain-name:value 'x' = 'a']", "refused"},
		{"[domain-name:resolves_to_refs[*].value = 'a']", "refused"},
		{"[domain-name:value = 'a' OR]", "refused"},
		{"[domain-name:value = 'a']]", "refused"},
		{"[domain-name:value = b'YQ==']", "refused"},
		{strings.Repeat("(", 1000) + "[domain-name:value = 'a']" + strings.Repeat(")", 1000), "refused"},
		{"[domain-name:value IN (" + strings.Repeat("'a',", maxAlternatives) + "'a')]", "refused"},
	}
	names := map[kind]string{domainKind: "domain", urlKind: "url", otherKind: "other"}
	for _, tt := range tests {
		found, ok := readPattern([]byte(tt.pattern))
		var texts []string
		for _, a := range found {
			texts = append(texts, fmt.Sprintf("%s %s", names[a.kind], a.value))
		}
		got := strings.Join(texts, ", ")
		if !ok {
			got = "refused"
		}
		if got != tt.want {
			t.Errorf("%.80s: %s, want %s", tt.pattern, got, tt.want)
		}
	}
}
