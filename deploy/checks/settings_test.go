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

// validate runs "rempart validate" with settings. Paths in settings that begin with a key of files are replaced by its value, as a mount does. The program refuses
// misspelt variables and invalid values, and warns of unknown ones.
func validate(t *testing.T, settings, files map[string]string) {
	t.Helper()
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "validate")
	cmd.Env = []string{"HOME=" + t.TempDir(), "REMPART_DATA_DIR=" + t.TempDir()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if !strings.HasPrefix(name, "REMPART_") || name == "REMPART_DATA_DIR" {
			continue
		}
		for mount, path := range files {
			value = strings.ReplaceAll(value, mount, path)
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARN") {
		t.Errorf("rempart validate: %v\n%s\nsettings: %q", err, out, cmd.Env)
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
