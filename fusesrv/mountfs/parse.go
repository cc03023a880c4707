package mountfs

import (
	"fmt"

	"vrafs/fusesrv"
	"vrafs/internal/tlv"
)

// parse decodes a state and checks that it can be one.
func parse(state []byte) (*saved, error) {
	records, err := tlv.Read(state, stateMagic, stateVersion, tagNext, tagNextDir, tagLatched, tagRooted, tagDir, tagMount)
	if err != nil {
		return nil, err
	}
	s := &saved{dirs: map[string]uint64{}}
	for _, r := range records {
		if err := s.record(r); err != nil {
			return nil, err
		}
	}
	return s, s.check()
}

func (s *saved) record(r tlv.Record) (err error) {
	switch r.Tag {
	case tagNext:
		s.next, err = r.Uint()
	case tagNextDir:
		s.nextDir, err = r.Uint()
	case tagLatched:
		s.latched, err = r.Uint()
	case tagRooted:
		s.rooted, err = r.Uint()
	case tagDir:
		err = s.dir(r.Value)
	case tagMount:
		err = s.mount(r.Value)
	}
	return err
}

func (s *saved) dir(p []byte) error {
	records, err := tlv.Records(p, tagDirID, tagDirPath)
	if err != nil {
		return err
	}
	id, path := uint64(0), ""
	for _, r := range records {
		switch r.Tag {
		case tagDirID:
			id, err = r.Uint()
		case tagDirPath:
			path = string(r.Value)
		}
		if err != nil {
			return err
		}
	}
	s.dirs[path] = id
	return nil
}

func (s *saved) mount(p []byte) error {
	records, err := tlv.Records(p, tagNumber, tagPath, tagIdentity, tagExtra, tagGone, tagHandles)
	if err != nil {
		return err
	}
	var m SavedMount
	for _, r := range records {
		var n uint64
		switch r.Tag {
		case tagPath:
			m.Path = string(r.Value)
		case tagIdentity:
			m.Identity = string(r.Value)
		case tagExtra:
			m.Extra = r.Value
		default:
			n, err = r.Uint()
		}
		if err != nil {
			return err
		}
		switch r.Tag {
		case tagNumber:
			if n > maxNumber {
				return fmt.Errorf("%w: mount number %d", ErrState, n)
			}
			m.Number = uint32(n)
		case tagGone:
			m.Gone = n != 0
		case tagHandles:
			m.Handles = int64(min(n, 1<<40))
		}
	}
	s.mounts = append(s.mounts, m)
	return nil
}

// check refuses states that name two things alike, or would give out again what
// the guest knows.
func (s *saved) check() error {
	if len(s.mounts) > maxMounts || len(s.dirs) > maxMounts || s.next > maxNumber+1 || s.nextDir > localMask {
		return fmt.Errorf("%w: absurd counts", ErrState)
	}
	numbers, paths, ids := map[uint32]bool{}, map[string]bool{}, map[uint64]bool{}
	for _, m := range s.mounts {
		at, err := clean(m.Path)
		taken := numbers[m.Number] || !m.Gone && paths[m.Path]
		if err != nil || at != m.Path || taken || m.Number == dirNumber || uint64(m.Number) >= max(s.next, 1) {
			return fmt.Errorf("%w: mount %d at %q", ErrState, m.Number, m.Path)
		}
		numbers[m.Number] = true
		paths[m.Path] = paths[m.Path] || !m.Gone
	}
	for path, id := range s.dirs {
		at, err := clean(path)
		isRoot := path == "/"
		if err != nil || at != path || ids[id] || isRoot != (id == fusesrv.RootID) || id == 0 || id >= max(s.nextDir, 2) {
			return fmt.Errorf("%w: directory %d at %q", ErrState, id, path)
		}
		ids[id] = true
	}
	return nil
}
