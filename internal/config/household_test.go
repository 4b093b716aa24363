package config

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHouseholdFileIsValid checks that the program knows every variable in deploy/household.env and accepts every value, including the ones in comments.
func TestHouseholdFileIsValid(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "household.env"))
	if err != nil {
		t.Fatal(err)
	}
	environ, err := ReadEnvFile(strings.NewReader(strings.ReplaceAll(string(b), "\n#"+Prefix, "\n"+Prefix)))
	if err != nil {
		t.Fatal(err)
	}
	environ["HOME"] = "/h"
	c, err := load(environ)
	if err != nil {
		t.Fatal(err)
	}
	if c.Feeds == "" || c.Released == "" || len(c.Lists) != 0 || len(c.Upstreams) != 1 || len(c.Forward) != 2 || len(c.Listen) != 2 || c.Allow == "" {
		t.Errorf("settings %+v, want those of deploy/household.env", c)
	}
	if !c.Canary.Firefox || !c.Canary.ICloud || c.SingleLabels != KeepSingleLabels || c.Rebinding != RefuseRebinding ||
		!c.Clients.OnLink || len(c.RebindingAllow) != 2 {
		t.Errorf("settings that a home needs are missing: %+v, clients %+v", c.Home, c.Clients)
	}
	if misspelt, others := Unknown(environ); len(misspelt)+len(others) > 0 {
		t.Errorf("unknown variables: %v, %v", misspelt, others)
	}
}

// TestEnvFile checks that settings files are read like a shell reads them.
func TestEnvFile(t *testing.T) {
	const text = "# a comment\n; another\n\nREMPART_LISTEN=:53\nexport REMPART_UPSTREAMS=tls://192.0.2.1:853#name.example\n" +
		"REMPART_ORGANISATION=\"Chez nous, \\\"ici\\\" $ \\\\\"\nREMPART_CONTACT='mailto:me@home.example'  \n  REMPART_ALLOW=\nREMPART_NODE=\"\"\n"
	got, err := ReadEnvFile(strings.NewReader(text))
	want := map[string]string{
		"REMPART_LISTEN": ":53", "REMPART_UPSTREAMS": "tls://192.0.2.1:853#name.example", "REMPART_ORGANISATION": `Chez nous, "ici" $ \`,
		"REMPART_CONTACT": "mailto:me@home.example", "REMPART_ALLOW": "", "REMPART_NODE": "",
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v\n%v\nwant\n%v", err, got, want)
	}
	for bad, says := range map[string]string{
		"REMPART_LISTEN": "line 1: not a variable", "\nA B=c": "line 2: not a variable", "=x": "not a variable", `A="x`: `the closing " is missing`, `A='x'y`: "something follows the closing '",
	} {
		if _, err := ReadEnvFile(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", bad, err, says)
		}
	}
}

// TestShellReadsHouseholdFileEqually checks that a shell reads the same values from deploy/household.env as the program.
func TestShellReadsHouseholdFileEqually(t *testing.T) {
	path := filepath.Join("..", "..", "deploy", "household.env")
	cmd := exec.Command("sh", "-c", `set -a; . "$1"; env -0`, "sh", path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		t.Skip(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := ReadEnvFile(f)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range strings.Split(string(out), "\x00") {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, Prefix) {
			got[name] = value
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("a shell reads\n%v\nwant\n%v", got, want)
	}
}

// TestRedact checks that Redact replaces passwords and tokens.
func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"nats://user:pass@192.0.2.1:4222,nats://u:p@[::1]:1":  "nats://xxxxx@192.0.2.1:4222,nats://xxxxx@[::1]:1",
		"Get \"https://u:p%40x@h.example/a?key=s&b=c\": dial": "Get \"https://xxxxx@h.example/a?…\": dial",
		"https://h.example/list#part":                         "https://h.example/list#part",
		"tls://192.0.2.1:853#name.example":                    "tls://192.0.2.1:853#name.example",
		"tls://dns.example:853@192.0.2.1,QUIC://a.b@::1":      "tls://dns.example:853@192.0.2.1,QUIC://a.b@::1",
		"tls://user:secret@dns.example,tls://a.b:c@192.0.2.1": "tls://xxxxx@dns.example,tls://xxxxx@192.0.2.1",
		"https://a.example:123@192.0.2.1/list":                "https://xxxxx@192.0.2.1/list",
		"mailto:me@home.example":                              "mailto:me@home.example",
		"a rempart_ABCDEFGHIJKLMNOPQRSTUVWXYZ234567 token":    "a rempart_xxxxx token",
		"rempart_queries_total":                               "rempart_queries_total",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	all := Variables(map[string]string{"REMPART_CONTROL_TOKEN": "s", "REMPART_NATS_URL": "nats://u:s@h", "REMPART_MODE": ""})
	for _, v := range all {
		if strings.Contains(v.Value, "s@") || v.Name == "REMPART_CONTROL_TOKEN" && v.Value != hidden || v.Name == "REMPART_MODE" && (v.Value != "enforce" || !v.Default) {
			t.Errorf("redacted variable %+v: a secret is shown, or another value is hidden", v)
		}
	}
	if err := Bad("CONTROL_TOKEN", "s3cret", "no good"); strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}
