package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"vrafs/api"
	"vrafs/internal/opener"
	"vrafs/internal/tlv"
)

// The state file of a vhost-user daemon, beside its socket. Configurations of
// mounts hold credentials, so only the owner may read it.
const (
	stateMagic   = "VRAFSTAT"
	stateVersion = 1 // what this program writes
	stateReader  = 1 // the least version that can read that
	maxStateFile = 256 << 20
)

// Records of the state.
const (
	tagBoot    = tlv.Required | 1 // id of the boot the state belongs to
	tagSession = tlv.Required | 2 // what the guest negotiated (fusesrv)
	tagTree    = tlv.Required | 3 // what is mounted and was, with its numbers (mountfs)
	tagConn    = tlv.Tag(4)       // number of the FUSE connection, for a keeper
	tagSet     = tlv.Tag(6)       // one for each value set over the API: id, key and value, with a NUL between
	tagInPlace = tlv.Required | 7 // for a successor in the same process, see inplacestate.go
	tagSocket  = tlv.Tag(5)       // device and inode of the control socket's name, 8 bytes each, for a keeper
)

// Records of one mount, which package mountfs keeps for us.
const (
	mountMagic  = "VRAFSMNT"
	tagSource   = tlv.Required | 1
	tagFSType   = tlv.Required | 2
	tagConfig   = tlv.Required | 3
	tagSince    = tlv.Required | 4 // nanoseconds of Unix time; shown for files without a time
	tagPrefetch = tlv.Tag(5)       // one for each file of the list
	tagRoot     = tlv.Tag(6)       // mounted from the command line, which says how
)

// A savedState is what a daemon needs to go on for a killed one.
type savedState struct {
	boot    string
	session []byte // none before INIT
	tree    []byte
	conn    uint64 // 0: not said
	socket  []byte // nil: not said
	set     []override
	inPlace *inPlace // nil: for another process that asks nobody
}

func (s *savedState) encode() []byte {
	e := tlv.Start(stateMagic, stateVersion, stateReader)
	e.Text(tagBoot, s.boot)
	if s.session != nil {
		e.Bytes(tagSession, s.session)
	}
	e.Bytes(tagTree, s.tree)
	if s.conn != 0 {
		e.Uint(tagConn, s.conn)
	}
	if s.socket != nil {
		e.Bytes(tagSocket, s.socket)
	}
	if s.inPlace != nil {
		e.Nested(tagInPlace, s.inPlace.encode)
	}
	for _, v := range s.set {
		e.Text(tagSet, v.id+"\x00"+v.key+"\x00"+v.value)
	}
	return e.Finish()
}

// decodeState reads a state of this version, or of a newer one that says that it
// can be read.
func decodeState(p []byte) (*savedState, error) {
	records, err := tlv.Read(p, stateMagic, stateVersion, tagBoot, tagSession, tagTree, tagConn, tagSocket, tagSet, tagInPlace)
	if err != nil {
		return nil, err
	}
	s := &savedState{}
	for _, r := range records {
		switch r.Tag {
		case tagBoot:
			s.boot = string(r.Value)
		case tagSession:
			s.session = r.Value
		case tagTree:
			s.tree = r.Value
		case tagConn:
			if s.conn, err = r.Uint(); err != nil {
				return nil, err
			}
		case tagSocket:
			s.socket = r.Value
		case tagInPlace:
			if s.inPlace, err = decodeInPlace(r.Value); err != nil {
				return nil, err
			}
		case tagSet:
			id, rest, _ := strings.Cut(string(r.Value), "\x00")
			key, value, ok := strings.Cut(rest, "\x00")
			if !ok {
				return nil, fmt.Errorf("%w: a value without a key", tlv.ErrFormat)
			}
			s.set = append(s.set, override{id, key, value})
		}
	}
	return s, nil
}

// A savedMount is how a file system was mounted.
type savedMount struct {
	cmd   api.MountCmd
	since time.Time
	root  bool
}

func (m *savedMount) encode() []byte {
	e := tlv.Start(mountMagic, stateVersion, stateReader)
	e.Text(tagSource, m.cmd.Source)
	e.Text(tagFSType, m.cmd.FSType)
	e.Text(tagConfig, m.cmd.Config)
	e.Uint(tagSince, uint64(m.since.UnixNano()))
	for _, f := range m.cmd.PrefetchFiles {
		e.Text(tagPrefetch, f)
	}
	if m.root {
		e.Bytes(tagRoot, nil)
	}
	return e.Finish()
}

func decodeMount(p []byte) (*savedMount, error) {
	records, err := tlv.Read(p, mountMagic, stateVersion, tagSource, tagFSType, tagConfig, tagSince, tagPrefetch, tagRoot)
	if err != nil {
		return nil, err
	}
	m := &savedMount{since: time.Unix(0, 0)}
	for _, r := range records {
		switch r.Tag {
		case tagSource:
			m.cmd.Source = string(r.Value)
		case tagFSType:
			m.cmd.FSType = string(r.Value)
		case tagConfig:
			m.cmd.Config = string(r.Value)
		case tagSince:
			n, err := r.Uint()
			if err != nil {
				return nil, err
			}
			m.since = time.Unix(0, int64(n))
		case tagPrefetch:
			m.cmd.PrefetchFiles = append(m.cmd.PrefetchFiles, string(r.Value))
		case tagRoot:
			m.root = true
		}
	}
	return m, nil
}

// A stateFile is where the state lies.
type stateFile struct {
	o     opener.Opener
	path  string
	boot  string
	saves saves
}

func newStateFile(o opener.Opener, path string) (*stateFile, error) {
	boot, err := bootID(o)
	if err != nil {
		return nil, err
	}
	return &stateFile{o: o, path: path, boot: boot}, nil
}

// bootID names this boot of the machine.
func bootID(o opener.Opener) (string, error) {
	boot, err := readSmall(o, "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(boot), nil
}

// write replaces the file by what snapshot returns, in one step. The file needs no
// fsync: a state is void after a power cut anyway.
func (f *stateFile) write(snapshot func() *savedState) error {
	return f.saves.do(func() error {
		s := snapshot()
		s.boot = f.boot
		return f.replace(s.encode())
	})
}

func (f *stateFile) replace(text []byte) error {
	temp := f.path + ".new"
	out, err := f.o.Open(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	_, err = out.Write(text)
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = f.o.Rename(temp, f.path)
	}
	if err != nil {
		_ = f.o.Remove(temp)
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// read returns the state of a predecessor of this boot, nil if there is none.
func (f *stateFile) read() (*savedState, error) {
	in, _, err := opener.Regular(f.o, f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("saved state: %w", err)
	}
	defer in.Close()
	p, err := io.ReadAll(io.LimitReader(in, maxStateFile))
	if err != nil {
		return nil, fmt.Errorf("saved state %s: %w", f.path, err)
	}
	s, err := decodeState(p)
	if err != nil {
		return nil, fmt.Errorf("saved state %s: %w", f.path, err)
	}
	if s.boot != f.boot {
		return nil, nil
	}
	return s, nil
}

// remove deletes the file for good: the session is over.
func (f *stateFile) remove() {
	f.saves.stop()
	_ = f.o.Remove(f.path)
}
