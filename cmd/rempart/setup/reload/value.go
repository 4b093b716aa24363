package reload

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"rempart/internal/durable"
	"rempart/internal/filewatch"
)

// Value is a value that is loaded from files, such as a certificate or a token. It is loaded again when one of the files changes. If the new content
// cannot be used, the earlier value stays in use, and this is logged once. Its methods are safe for concurrent use.
type Value[T any] struct {
	name  string   // for the log: the variable that names the files
	paths []string // the files
	load  func() (T, error)
	log   *slog.Logger
	watch *filewatch.Watcher

	value atomic.Pointer[T]

	mu      sync.Mutex // held during a reload
	sum     [sha256.Size]byte
	problem string // the last logged problem; "" if the newest content is in use
}

// File is implemented by a Value of any type, and by the files of the guards.
type File interface {
	Reload() Result
	Problem() string // why the newest content cannot be used, "" if it is in use
	Setting() string
	Run(ctx context.Context) error
}

// Files are the files of several values.
type Files []File

// Run reloads each file whenever it changes, until ctx ends.
func (all Files) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range all {
		g.Go(func() error { return f.Run(ctx) })
	}
	return g.Wait()
}

// Reload reads every file, and uses its content if it changed.
func (all Files) Reload() {
	for _, f := range all {
		f.Reload()
	}
}

// refused describes a file whose newest content cannot be used.
const refused = "cannot be used; the earlier content stays in use until a restart, which would fail: correct the file"

// Problems returns a sentence for each file whose newest content cannot be used.
func (all Files) Problems() (sentences []string) {
	for _, f := range all {
		if why := f.Problem(); why != "" {
			sentences = append(sentences, fmt.Sprintf("a file of %s %s (%s)", f.Setting(), refused, why))
		}
	}
	return sentences
}

// New loads the value for the first time, and returns the error if that fails.
func New[T any](log *slog.Logger, name string, paths []string, load func() (T, error)) (*Value[T], error) {
	r := &Value[T]{name: name, paths: paths, load: load, log: log, watch: filewatch.New(paths...)}
	sum, err := sumOf(paths)
	if err != nil {
		return nil, err
	}
	value, err := load()
	if err != nil {
		return nil, err
	}
	r.sum = sum
	r.value.Store(&value)
	return r, nil
}

// Get returns the value in use; the zero value if r is nil, because no files are named.
func (r *Value[T]) Get() (value T) {
	if r == nil {
		return value
	}
	return *r.value.Load()
}

// Result is the result of a reload.
type Result int

const (
	Unchanged Result = iota // the files contain the content that is in use
	Applied                 // new content is in use now
	Refused                 // the new content cannot be used; the earlier value stays in use
)

// Reload reads the files, and uses their content if it changed. It logs when new content is in use, and once when new content cannot be used.
func (r *Value[T]) Reload() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum, err := sumOf(r.paths)
	if err == nil && sum == r.sum {
		if r.problem != "" {
			r.log.Info("the files hold the content in use again", "setting", r.name)
		}
		r.problem = ""
		return Unchanged
	}
	var value T
	if err == nil {
		value, err = r.load()
	}
	if err != nil {
		if problem := err.Error(); problem != r.problem {
			r.log.Error("the changed file "+refused,
				"setting", r.name, "path", strings.Join(r.paths, ", "), "error", err)
			r.problem = problem
		}
		return Refused
	}
	r.value.Store(&value)
	r.sum, r.problem = sum, ""
	r.log.Info("a changed file is in use", "setting", r.name, "path", strings.Join(r.paths, ", "))
	return Applied
}

// Problem returns the reason why the newest content cannot be used, "" if it is in use.
func (r *Value[T]) Problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// Run reloads whenever a file changes, until ctx ends.
func (r *Value[T]) Run(ctx context.Context) error {
	r.watch.Run(ctx, filewatch.Interval, func([]string) { r.Reload() })
	return nil
}

// Path returns the path of the first file.
func (r *Value[T]) Path() string { return r.paths[0] }

// Setting returns the name of the variable.
func (r *Value[T]) Setting() string { return r.name }

// maxReloadable is the largest size of a file in bytes; a popularity list is the largest one.
const maxReloadable = 512 << 20

// sumOf returns a hash of the contents of files.
func sumOf(paths []string) (sum [sha256.Size]byte, err error) {
	all := sha256.New()
	for _, path := range paths {
		one := sha256.New()
		f, err := durable.OpenRegular(path)
		if err != nil {
			return sum, err
		}
		n, err := io.Copy(one, io.LimitReader(f, maxReloadable+1))
		f.Close()
		if err == nil && n > maxReloadable {
			err = fmt.Errorf("%s: larger than %d bytes", path, maxReloadable)
		}
		if err != nil {
			return sum, err
		}
		all.Write(one.Sum(nil))
	}
	all.Sum(sum[:0])
	return sum, nil
}
