package listen

// serveHTTPS serves a connection after its handshake.
func (s *streamServer) serveHTTPS(c *connection, protocol string) { c.close() }
