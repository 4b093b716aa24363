//go:build !linux

package doctor

import "errors"

func clockIsSynchronised() (bool, error) { return false, errors.ErrUnsupported }

func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }
