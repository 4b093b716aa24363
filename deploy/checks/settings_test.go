package checks

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// repository is the folder of the program's module.
var repository = filepath.Join("..", "..")

// program builds Rempart once and returns its path.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rempart-checks-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "rempart")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/rempart")
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return binary, nil
})

// TestMain removes the program after the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

// runProgram runs Rempart with only these variables, and returns its output.
func runProgram(t *testing.T, args, env []string) (string, error) {
	t.Helper()
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// environment returns settings as variables. In values, the paths of mounts are replaced by the folders that have their content.
func environment(settings, mounts map[string]string) (env []string) {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if !strings.HasPrefix(name, "REMPART_") || name == "REMPART_DATA_DIR" {
			continue
		}
		for mount, folder := range mounts {
			value = strings.ReplaceAll(value, mount, folder)
		}
		env = append(env, name+"="+value)
	}
	return env
}

// runValidate runs "rempart validate" with settings and mounts.
func runValidate(t *testing.T, settings, mounts map[string]string) (string, error) {
	t.Helper()
	return runProgram(t, []string{"validate"}, append(environment(settings, mounts), "REMPART_DATA_DIR="+t.TempDir()))
}

// validate checks that Rempart accepts settings. It refuses misspelt variables and invalid values, and warns of unknown variables.
func validate(t *testing.T, settings, mounts map[string]string) {
	t.Helper()
	if out, err := runValidate(t, settings, mounts); err != nil || strings.Contains(out, "WARN") {
		t.Errorf("rempart validate: %v\n%s\nsettings: %q", err, out, settings)
	}
}

// read returns the content of a file of the repository.
func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{repository}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// portNumber returns a port as text.
func portNumber(port uint32) string { return strconv.FormatUint(uint64(port), 10) }
