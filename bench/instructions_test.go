//go:build linux && !race

package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

var update = flag.Bool("update", false, "record the instructions a query takes in "+recordFile)

const (
	recordFile = "instructions.txt"
	tolerance  = 5 // per cent of the recorded number
)

// TestInstructions holds the instructions that Fast takes for a query, as callgrind counts them, to recorded numbers, which no
// clock, memory or neighbour has a part in. Runs differ by less than 0.1 %, by the seed of the cache's hash and by
// where in the histogram a batch's latency falls.
//
// The program itself says what is to be counted. Callgrind's --toggle-collect, by a function's name, takes a change of
// stacks for the function's end: Go changes them for the clock and in its scheduler, and at random places, so that one run in
// ten miscounts. GODEBUG=asyncpreemptoff=1 must be: Go preempts by signals, and callgrind 3.19 dies of a failed
// assertion when one returns. cpu.rdtscp=off keeps the runtime from an instruction that valgrind 3.19 does not know, which it takes when one of its locks is
// contended.
//
// Go's runtime chooses by CPUID, for which valgrind answers with what it emulates of the processor at hand (AES, AVX2,
// BMI, ERMS on one that has them). Of these only AES matters to the fast path, for the cache's hash: with cpu.aes=off a hit takes
// 33 instructions more, with cpu.all=off as many. What the compiler chooses is fixed by GOAMD64. The clock
// is read by system calls here, since valgrind hides the vDSO: its two readings a batch are a few instructions.
func TestInstructions(t *testing.T) {
	dnstest.Need(t, "valgrind")
	here := runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	made, recorded := readRecord(t)
	if !*update && here != made {
		mod, err := exec.Command("go", "list", "-m", "-f", "{{.GoVersion}}").Output()
		if err != nil {
			t.Fatalf("go list -m: %v", err)
		}
		if want := "go" + strings.TrimSpace(string(mod)); !strings.HasPrefix(made, want+" ") {
			t.Fatalf("%s was recorded with %s, and go.mod is at %s now: record again with it, %s", recordFile, made, want, howToRecord)
		}
		t.Skipf("%s was recorded with %s, this is %s: nothing to compare", recordFile, made, here)
	}
	program := filepath.Join(t.TempDir(), "instructions")
	build := exec.Command("go", "build", "-o", program, "rempart/bench/instructions")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOAMD64=v1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	for _, l := range fastLoads() {
		t.Run(l.name, func(t *testing.T) {
			n := count(t, program, l.name)
			if !*update {
				compare(t, l.name, n, recorded[l.name])
			}
			recorded[l.name] = n
		})
	}
	if *update && !t.Failed() {
		writeFigures(t, here, recorded)
	}
}

const howToRecord = "go test ./bench -run 'Instructions$' -update"

func compare(t *testing.T, load string, n, recorded int) {
	t.Helper()
	if recorded == 0 {
		t.Fatalf("%s is not in %s: record it, %s", load, recordFile, howToRecord)
	}
	change := 100 * float64(n-recorded) / float64(recorded)
	t.Logf("%s: %d instructions a query, %+.1f %%", load, n, change)
	switch {
	case change > tolerance:
		t.Errorf(`%s: %d instructions a query, where %d are recorded: %.1f %% more.
To see where they are, now and before the change:
	go test ./bench -run 'Instructions$/^%s$' -v -artifacts -outputdir /tmp
	callgrind_annotate --auto=no FOLDER/callgrind.out (the first command says which FOLDER, at ARTIFACTS)
If they are worth it, record them:
	%s`, load, n, recorded, change, load, howToRecord)
	case change < -tolerance:
		t.Errorf("%s: %d instructions a query, where %d are recorded: %.1f %% less. Record the gain, so that it is kept: %s",
			load, n, recorded, -change, howToRecord)
	}
}

var totals = regexp.MustCompile(`(?m)^totals: (\d+)$`)

// count runs program under callgrind and returns the number of instructions per query of load.
func count(t *testing.T, program, load string) int {
	t.Helper()
	out := filepath.Join(t.ArtifactDir(), "callgrind.out")
	run := exec.CommandContext(t.Context(), "valgrind", "--tool=callgrind", "--collect-atstart=no", "--callgrind-out-file="+out, program, load)
	run.Env = Environ("GOGC=off", "GOMEMLIMIT=off", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1,cpu.rdtscp=off")
	if said, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", run, err, said)
	}
	written, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	found := totals.FindSubmatch(written)
	if found == nil {
		t.Fatalf("%s has no line of totals", out)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil || n == 0 {
		t.Fatalf("%s: callgrind counted %s instructions", out, found[1])
	}
	return (n + Counted/2) / Counted
}

func writeFigures(t *testing.T, made string, figures map[string]int) {
	t.Helper()
	text := fmt.Sprintf("# Instructions a query in Fast: %s\n%s\n", howToRecord, made)
	for _, l := range fastLoads() {
		text += fmt.Sprintln(l.name, figures[l.name])
	}
	if err := os.WriteFile(recordFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readRecord returns the versions with which the numbers were recorded, and the number of each load.
func readRecord(t *testing.T) (string, map[string]int) {
	t.Helper()
	written, err := os.ReadFile(recordFile)
	if err != nil && !*update {
		t.Fatalf("%v: record the numbers, %s", err, howToRecord)
	}
	made, figures := "", map[string]int{}
	for line := range strings.Lines(string(written)) {
		line = strings.TrimSpace(line)
		load, text, _ := strings.Cut(line, " ")
		switch n, err := strconv.Atoi(text); {
		case strings.HasPrefix(line, "#"):
		case made == "":
			made = line
		case err != nil:
			t.Fatalf("%s: %q is not a load and its number", recordFile, line)
		default:
			figures[load] = n
		}
	}
	return made, figures
}
