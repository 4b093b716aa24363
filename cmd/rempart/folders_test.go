package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// updateFolders is the flag that writes testdata/folders/NUMBER.tar.gz anew, for the format that this program writes. It is used once for each format, when the format is
// new: the file then stays as it is.
var updateFolders = flag.String("folders", "", "write the data folders of this program to testdata/folders under this number")

// listOfFolders is the list of which the kept folders hold copies. Nobody serves it.
const listOfFolders = "http://lists.example:18080/list.txt"

func keptFolder(number string) string { return filepath.Join("testdata", "folders", number+".tar.gz") }

// TestFoldersOfEarlierReleases checks that this program continues with the data folders of each earlier format: a server blocks by the copy of a list that can no longer
// be fetched, control has its journal, and a server that follows control has its set.
func TestFoldersOfEarlierReleases(t *testing.T) {
	if *updateFolders != "" {
		writeFolders(t, *updateFolders)
	}
	kept, err := filepath.Glob(keptFolder("*"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("no folder is kept: %v", err)
	}
	for _, path := range kept {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			dnstest.Command(t, "tar", "xzf", path, "-C", dir)
			u := upstreams(dnstest.NewUpstream(t, nil))
			home := start(t, u, "REMPART_DATA_DIR="+dir+"/home", "REMPART_LISTS="+listOfFolders)
			if got := address(ask(t, home, "listed.example")); got != page {
				t.Errorf("a name of the copy of a list: %s", got)
			}
			control := startControl(t, "REMPART_DATA_DIR="+dir+"/control")
			edge := start(t, u, "REMPART_DATA_DIR="+dir+"/edge", "REMPART_CONTROL="+control.API+"/v1/journal", "REMPART_CONTROL_KEY="+rootOf(t, control),
				"REMPART_CONTROL_TOKEN_FILE="+dir+"/token", "REMPART_NODE=kept") // control waits for it before the first push
			ada := newToken(t, control, "ada", "publisher")
			names := filepath.Join(t.TempDir(), "names")
			write(t, names, "later.example")
			must(t, control, ada, "push", names, "--reason", "test")
			for _, name := range []string{"pushed.example", "later.example"} {
				dnstest.Eventually(t, name+" is blocked", func() bool { return address(ask(t, edge, name)) == page })
			}
		})
	}
}

// writeFolders writes the data folders of this program.
func writeFolders(t *testing.T, number string) {
	t.Helper()
	dir := t.TempDir()
	list := serveFolderList(t)
	u := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A 127.0.0.1"))
	home := start(t, upstreams(u), "REMPART_DATA_DIR="+dir+"/home", "REMPART_LISTS="+listOfFolders)
	dnstest.Eventually(t, "the list is in force", func() bool { return address(ask(t, home, "listed.example")) == page })
	list.Close()
	control := startControl(t, "REMPART_DATA_DIR="+dir+"/control")
	ada := newToken(t, control, "writer", "publisher")
	names := filepath.Join(t.TempDir(), "names")
	write(t, names, "pushed.example")
	env := edgeEnv(t, control, "kept")
	_, token, _ := strings.Cut(env[slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "REMPART_CONTROL_TOKEN=") })], "=")
	write(t, dir+"/token", token)
	edge := start(t, append(env, upstreams(u), "REMPART_DATA_DIR="+dir+"/edge")...)
	must(t, control, ada, "push", names, "--reason", "test", "--wait")
	for _, p := range []*dnstest.Program{edge, control, home} {
		p.Stop(t)
	}
	path, err := filepath.Abs(keptFolder(number))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	dnstest.Command(t, "tar", "czf", path, "--owner=0", "--group=0", "-C", dir, "home", "control", "edge", "token")
}

// TestFolderOfNewerReleaseIsRefused checks that a server and control refuse a data folder of a newer format, and say what to do.
func TestFolderOfNewerReleaseIsRefused(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "control"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "format"), "1000")
		cmd := exec.Command("rempart", command)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "REMPART_DATA_DIR=" + dir, "REMPART_LISTEN=127.0.0.1:0"}
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "newer Rempart") {
			t.Errorf("%s: exit code %d, %s", command, cmd.ProcessState.ExitCode(), out)
		}
	}
}

// serveFolderList serves listOfFolders.
func serveFolderList(t *testing.T) *http.Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:18080")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "listed.example") })}
	go func() { _ = s.Serve(l) }()
	return s
}
