package testtree

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// line is one entry of a manifest.
type line struct {
	Path   text   `json:"path"`
	Mode   uint32 `json:"mode"`
	UID    uint32 `json:"uid,omitempty"`
	GID    uint32 `json:"gid,omitempty"`
	Nlink  uint32 `json:"nlink,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Rdev   uint64 `json:"rdev,omitempty"`
	Sec    int64  `json:"sec,omitempty"`
	Nsec   int64  `json:"nsec,omitempty"`
	Target text   `json:"target,omitempty"`
	Link   text   `json:"link,omitempty"`
	Xattrs []text `json:"xattrs,omitempty"` // name, value, name, value, ...
	Digest string `json:"digest,omitempty"`
}

// WriteManifest writes one JSON object per entry and line.
func WriteManifest(w io.Writer, entries []Entry) error {
	bw := bufio.NewWriter(w)
	enc := json.NewEncoder(bw)
	for i := range entries {
		e := &entries[i]
		l := line{
			Path: text(e.Path), Mode: e.Mode, UID: e.UID, GID: e.GID, Nlink: e.Nlink, Size: e.Size, Rdev: e.Rdev,
			Sec: e.Sec, Nsec: e.Nsec, Target: text(e.Target), Link: text(e.Link), Digest: e.Digest,
		}
		for _, x := range e.Xattrs {
			l.Xattrs = append(l.Xattrs, text(x.Name), text(x.Value))
		}
		if err := enc.Encode(&l); err != nil {
			return fmt.Errorf("write manifest: %w", err)
		}
	}
	return bw.Flush()
}

// ReadManifest reads what WriteManifest wrote.
func ReadManifest(r io.Reader) ([]Entry, error) {
	dec := json.NewDecoder(bufio.NewReader(r))
	var entries []Entry
	for {
		var l line
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF):
			return entries, nil
		case err != nil:
			return nil, fmt.Errorf("read manifest: entry %d: %w", len(entries), err)
		}
		e := Entry{
			Path: string(l.Path), Mode: l.Mode, UID: l.UID, GID: l.GID, Nlink: l.Nlink, Size: l.Size, Rdev: l.Rdev,
			Sec: l.Sec, Nsec: l.Nsec, Target: string(l.Target), Link: string(l.Link), Digest: l.Digest,
		}
		for i := 0; i+1 < len(l.Xattrs); i += 2 {
			e.Xattrs = append(e.Xattrs, Xattr{string(l.Xattrs[i]), string(l.Xattrs[i+1])})
		}
		entries = append(entries, e)
	}
}
