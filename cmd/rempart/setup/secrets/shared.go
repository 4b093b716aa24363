package secrets

import (
	"fmt"
	"log/slog"

	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/durable"
)

// Shared are secrets that several servers share by a file; without a file, a random one of this process. Whoever runs the values of Files loads a changed file again.
// Its methods are safe for concurrent use.
type Shared[T any] struct {
	file   *reload.Value[T] // nil without a file
	random T
}

// NewShared reads the file at path, which the variable names; if path is empty, it makes a random secret.
func NewShared[T any](variable, path string, log *slog.Logger, parse func(text []byte) (T, error), random func() T) (*Shared[T], error) {
	if path == "" {
		return &Shared[T]{random: random()}, nil
	}
	file, err := reload.New(log, variable, []string{path}, func() (T, error) { return readSecrets(path, parse) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return &Shared[T]{file: file}, nil
}

func readSecrets[T any](path string, parse func(text []byte) (T, error)) (none T, err error) {
	text, err := durable.ReadRegular(path, MaxFile)
	if err != nil {
		return none, err
	}
	secrets, err := parse(text)
	if err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	return secrets, nil
}

// Secrets returns the secrets in use.
func (s *Shared[T]) Secrets() T {
	if s.file == nil {
		return s.random
	}
	return s.file.Get()
}

// Files returns the file of the secrets; nil if no file is configured.
func (s *Shared[T]) Files() reload.Files {
	if s.file == nil {
		return nil
	}
	return reload.Files{s.file}
}
