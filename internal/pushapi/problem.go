package pushapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/changeset"
)

// problem returns an error as RFC 9457 defines it. field is the part of the request that is wrong, "" for none.
func problem(status int, field, detail string) error {
	if field == "" {
		return huma.NewError(status, detail)
	}
	return huma.NewError(status, detail, &huma.ErrorDetail{Message: detail, Location: field})
}

// statusOfKind returns the HTTP status of each kind of failure of a change set or an appeal.
func statusOfKind(k changeset.Kind) int {
	switch k {
	case changeset.NotFound:
		return http.StatusNotFound
	case changeset.Conflict:
		return http.StatusConflict
	case changeset.Forbidden:
		return http.StatusForbidden
	case changeset.Invalid:
		return http.StatusUnprocessableEntity
	case changeset.Malformed:
		return http.StatusBadRequest
	case changeset.TooLarge:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusServiceUnavailable // Unavailable, Damaged, InProgress
}

// render returns the response to an error of a handler. It logs the cause of a failure, which the response does not show.
func (a *API) render(err error) error {
	e := (*changeset.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	if e.Kind == changeset.Unavailable {
		a.log.Error(e.Detail, "err", e.Err)
	}
	out := problem(statusOfKind(e.Kind), e.Field, e.Detail)
	if e.After == 0 {
		return out
	}
	return huma.ErrorWithHeaders(out, http.Header{"Retry-After": {strconv.Itoa(int(e.After / time.Second))}})
}

// withoutValues removes from errors the value that was wrong: it may be long, or secret. Errors name the field instead.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		for _, e := range m.Errors {
			e.Value, e.Message = nil, changeset.Shorten(e.Message)
		}
	}
	return v, nil
}
