package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"rempart/internal/durable"
)

const (
	// dataFormat is the format of the data folder, of a server and of control. A release that changes it raises the number, and still reads folders of lower ones:
	// cmd/rempart/testdata/folders has one of each.
	dataFormat = 1

	formatFile    = "format" // holds the number; a folder without it has the format 1
	maxFormatFile = 32
)

// ClaimFolder checks that this program can read a data folder, and marks the folder with the format. The error says what to do about a folder of a newer program: this
// one could misread it, or lose what it does not know. A folder that cannot be written is not an error.
func ClaimFolder(dir string) error {
	path := filepath.Join(dir, formatFile)
	text, err := durable.ReadRegular(path, maxFormatFile)
	switch {
	case errors.Is(err, syscall.ENOTDIR): // who opens the folder reports it
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if os.MkdirAll(dir, 0o750) == nil {
			_ = durable.WriteBytes(path, []byte(strconv.Itoa(dataFormat)+"\n")) // the next start tries again
		}
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not read the data folder %s (%w): give the folder to the user that runs Rempart, or set REMPART_DATA_DIR to another one", dir, err)
	case err != nil:
		return fmt.Errorf("the format of the data folder: %w (the data folder is set by REMPART_DATA_DIR)", err)
	}
	format, err := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return fmt.Errorf("%s does not hold a number: if the folder %s is Rempart's, remove the file; else set REMPART_DATA_DIR to another folder", path, dir)
	case format > dataFormat:
		return fmt.Errorf("the data folder %s was written by a newer Rempart (its format is %d, and this program reads up to %d): run that version, restore a backup of the folder, or set REMPART_DATA_DIR to an empty folder",
			dir, format, dataFormat)
	}
	return nil
}
