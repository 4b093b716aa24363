package setup

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"rempart/internal/config"
	"rempart/internal/durable"
)

// NodeName returns the configured name of this server, or the random name in the data folder, which it creates if needed.
func NodeName(c *config.Config, log *slog.Logger) string {
	if name := StoredNodeName(c); name != "" {
		return name
	}
	path, err := nodeNamePath(c), error(nil)
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	name := "node-" + hex.EncodeToString(id[:])
	if err = os.MkdirAll(c.DataDir, 0o750); err == nil {
		err = durable.WriteBytes(path, []byte(name+"\n"))
	}
	if err != nil {
		log.Warn("storing the generated name of this server failed, so that it will have another name after a restart; set REMPART_NODE, or make the data folder writable", "node", name, "err", err)
	}
	return name
}

// maxNodeFile is the largest size of the file of the name, in bytes.
const maxNodeFile = 4 << 10

func nodeNamePath(c *config.Config) string { return filepath.Join(c.DataDir, "node") }

// StoredNodeName returns the configured name, or the name of an earlier run; "" if there is none.
func StoredNodeName(c *config.Config) string {
	if c.Node != "" {
		return c.Node
	}
	data, err := durable.ReadRegular(nodeNamePath(c), maxNodeFile)
	if name := strings.TrimSpace(string(data)); err == nil && len(name) <= 64 {
		return name
	}
	return ""
}
