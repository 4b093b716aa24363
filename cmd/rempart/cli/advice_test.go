package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMissingFileHasAdvice checks that the message about a missing file says what to do, once.
func TestMissingFileHasAdvice(t *testing.T) {
	_, err := os.Stat(filepath.Join(t.TempDir(), "feeds.toml"))
	err = fmt.Errorf("REMPART_FEEDS: %w", err)
	if text := WithAdvice(err); !strings.HasPrefix(text, "REMPART_FEEDS: stat /") || !strings.HasSuffix(text, "feeds.toml, or correct the path") {
		t.Error(text)
	}
	for _, other := range []error{errors.New("no such file"), fmt.Errorf("%w: run \"rempart setup\"", err)} {
		if text := WithAdvice(other); text != other.Error() {
			t.Error(text)
		}
	}
}
