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
	tolerance  = 5 // largest accepted change in per cent of the recorded number
)

// TestInstructions checks that the number of instructions that Fast executes for a query has not changed from the recorded number by more than the tolerance.
// Callgrind counts them, so that the speed of the clock and of memory and other processes do not change the result. Two runs differ by less than 0.1 %, because
// of the random seed of the cache's hash and because of the place of a batch's latency in the histogram.
//
// The program itself starts and stops the count. Callgrind's option --toggle-collect, which counts inside a function, cannot be used: it treats a change of the
// stack as the end of the function. Go changes the stack to read the clock, in its scheduler and at random places, so that one run in ten was wrong.
// GODEBUG=asyncpreemptoff=1 is necessary because Go preempts goroutines by signals, and callgrind 3.19 ends with a failed assertion when a signal handler
// returns. cpu.rdtscp=off is necessary because Go's runtime otherwise executes RDTSCP when one of its locks is contended, and valgrind 3.19 does not know this
// instruction.
//
// Go's runtime chooses code by CPUID. Valgrind reports the features that it can emulate and that the processor has (AES, AVX2, BMI, ERMS). Of these only AES
// affects the fast path, in the cache's hash: a hit executes 33 more instructions with cpu.aes=off, and also with cpu.all=off. GOAMD64 fixes the choices of
// the compiler. Valgrind hides the vDSO, so that the clock is read by system calls; the two reads for each batch are only a few instructions.
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
			t.Fatalf("%s was recorded with %s, and go.mod now requires %s: record the numbers again with that version: %s", recordFile, made, want, howToRecord)
		}
		t.Skipf("%s was recorded with %s and this is %s: the numbers cannot be compared", recordFile, made, here)
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
		t.Fatalf("%s is not in %s: record it with %s", load, recordFile, howToRecord)
	}
	change := 100 * float64(n-recorded) / float64(recorded)
	t.Logf("%s: %d instructions per query, %+.1f %%", load, n, change)
	switch {
	case change > tolerance:
		t.Errorf(`%s: %d instructions per query, %d are recorded: %.1f %% more.
To see where they are executed, run this now and before the change:
	go test ./bench -run 'Instructions$/^%s$' -v -artifacts -outputdir /tmp
	callgrind_annotate --auto=no FOLDER/callgrind.out (the first command prints FOLDER after ARTIFACTS)
If the change is worth this cost, record the new number:
	%s`, load, n, recorded, change, load, howToRecord)
	case change < -tolerance:
		t.Errorf("%s: %d instructions per query, %d are recorded: %.1f %% less. Record the new number, so that a later loss is detected: %s",
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
		t.Fatalf("%s has no line with totals", out)
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

// readRecord returns the version of Go and the platform with which the numbers were recorded, and the number of each load.
func readRecord(t *testing.T) (string, map[string]int) {
	t.Helper()
	written, err := os.ReadFile(recordFile)
	if err != nil && !*update {
		t.Fatalf("%v: record the numbers with %s", err, howToRecord)
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
			t.Fatalf("%s: the line %q is not a load and its number", recordFile, line)
		default:
			figures[load] = n
		}
	}
	return made, figures
}
