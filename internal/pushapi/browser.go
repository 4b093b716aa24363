package pushapi

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"time"
)

// bodyTypes are the media types of requests. No HTML form, and no script of another site without a preflight request, can send one of them.
var bodyTypes = []string{TypeJSON, TypeNDJSON, TypeCSV, TypeSigned, TypeOrder}

// sameSite serves with h, and refuses requests that change something and come from a web page of another site, by Sec-Fetch-Site or Origin: a browser
// adds the client certificate of its user to such requests. Programs that are not browsers send neither header field.
func sameSite(h http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if protection.Check(r) != nil {
			refuse(w, r, http.StatusForbidden, "", "a web page of another site may not call this API: Sec-Fetch-Site or Origin names another site")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// typed serves with h, and refuses requests that change something and whose body has no media type of this API.
func typed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if changes(r.Method) && hasBody(r) && !slices.Contains(bodyTypes, mediaType(r)) {
			refuse(w, r, http.StatusUnsupportedMediaType, "header.Content-Type", "a request with a body needs the header field Content-Type, with one of the media types that /openapi.json lists")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Misdirected responds to a request whose Host is not a name of this API.
func Misdirected(w http.ResponseWriter, r *http.Request) {
	refuse(w, r, http.StatusMisdirectedRequest, "header.Host",
		"the header field Host does not name this API: use the address of the API, localhost, a name in its certificate, or a name in REMPART_PUSH_HOSTS")
}

// changes reports whether requests of a method may change something (RFC 9110 section 9.2.1).
func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// mediaType returns the media type of a request's body without its parameters, "" for none.
func mediaType(r *http.Request) string {
	all := r.Header.Values("Content-Type")
	if len(all) != 1 {
		return ""
	}
	t, _, err := mime.ParseMediaType(all[0])
	if err != nil {
		return ""
	}
	return t
}

// refuse responds with a problem, and does not wait for the rest of the request's body.
func refuse(w http.ResponseWriter, r *http.Request, status int, field, detail string) {
	if hasBody(r) {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uselessFor)) // a connection that does not support it keeps the server's deadline
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problem(status, field, detail)) // the client may have closed the connection
}
