package journal

import (
	"fmt"
	"hash/crc32"
	"os"
)

// mark is the newest version that was ever in force in a folder. It shows after a restart whether records were lost. It is written without a sync: after a
// crash of the machine it may be older, but never newer.
type mark struct{ Epoch, Version uint64 }

const markName = "newest"

func (m mark) after(o mark) bool {
	return m.Epoch > o.Epoch || m.Epoch == o.Epoch && m.Version > o.Version
}

// encode returns the mark as text of constant length, with a checksum.
func (m mark) encode() []byte {
	text := fmt.Sprintf("%20d %20d", m.Epoch, m.Version)
	return fmt.Appendf(nil, "%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

// readMark returns the folder's mark; its zero value if there is no valid one.
func (d *disk) readMark() (m mark) {
	data, err := os.ReadFile(d.path(markName))
	if err != nil {
		return mark{}
	}
	if n, err := fmt.Sscanf(string(data), "%d %d", &m.Epoch, &m.Version); n != 2 || err != nil || string(m.encode()) != string(data) {
		return mark{}
	}
	return m
}

// writeMark replaces the folder's mark. Errors are ignored: the mark then stays older.
func (d *disk) writeMark(m mark) {
	f, err := os.OpenFile(d.path(markName), os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteAt(m.encode(), 0)
}
