package fusesrv

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"vrafs/internal/tlv"
)

// Settings as saved state. Version 1 is the first.
const (
	settingsMagic   = "vrafsfus"
	settingsVersion = 1
	settingsReader  = 1

	tagMajor         = 1 | tlv.Required
	tagMinor         = 2 | tlv.Required
	tagFlags         = 3 | tlv.Required
	tagMaxReadahead  = 4
	tagMaxWrite      = 5 | tlv.Required
	tagMaxPages      = 6
	tagMaxBackground = 7
	tagCongestion    = 8
	tagMapAlignment  = 9
	tagMaxStackDepth = 10
	tagNoOpen        = 11 | tlv.Required
	tagNoOpendir     = 12 | tlv.Required
)

// maxSavedWrite is the most that MaxWrite can be, in bytes: every request takes as
// much memory. The kernel sends no more than MaxPages of 4 KiB.
const maxSavedWrite = maxPages << 12

// ErrState is the class of saved settings that can't be.
var ErrState = errors.New("saved settings can't be taken over")

// Save returns the settings in the form that ParseSettings reads, also in the next
// and the previous release.
func (t *Settings) Save() []byte {
	e := tlv.Start(settingsMagic, settingsVersion, settingsReader)
	fields := t.fields()
	// In one order, so that equal settings have equal texts.
	for _, tag := range slices.SortedFunc(maps.Keys(fields), func(a, b tlv.Tag) int { return cmp.Compare(a&^tlv.Required, b&^tlv.Required) }) {
		e.Uint(tag, fields[tag].get())
	}
	return e.Finish()
}

// ParseSettings decodes what Save returned.
func ParseSettings(p []byte) (Settings, error) {
	var t Settings
	fields := t.fields()
	records, err := tlv.Read(p, settingsMagic, settingsVersion, slices.Collect(maps.Keys(fields))...)
	if err != nil {
		return t, err
	}
	for _, r := range records {
		v, err := r.Uint()
		if err != nil {
			return t, err
		}
		f := fields[r.Tag]
		if f.set(v); f.get() != v {
			return t, fmt.Errorf("%w: record %d is %d", ErrState, r.Tag, v)
		}
	}
	switch {
	case t.Major != Major || t.Minor < minMinor:
		return t, fmt.Errorf("%w: protocol %d.%d", ErrState, t.Major, t.Minor)
	case t.MaxWrite > maxSavedWrite:
		return t, fmt.Errorf("%w: requests of %d bytes", ErrState, t.MaxWrite)
	}
	return t, nil
}

// A field is a number in Settings.
type field struct {
	get func() uint64
	set func(uint64)
}

// fields lists t's fields by their tags.
func (t *Settings) fields() map[tlv.Tag]field {
	return map[tlv.Tag]field{
		tagMajor:         number(&t.Major),
		tagMinor:         number(&t.Minor),
		tagFlags:         number(&t.Flags),
		tagMaxReadahead:  number(&t.MaxReadahead),
		tagMaxWrite:      number(&t.MaxWrite),
		tagMaxPages:      number(&t.MaxPages),
		tagMaxBackground: number(&t.MaxBackground),
		tagCongestion:    number(&t.Congestion),
		tagMapAlignment:  number(&t.MapAlignment),
		tagMaxStackDepth: number(&t.MaxStackDepth),
		tagNoOpen:        truth(&t.NoOpen),
		tagNoOpendir:     truth(&t.NoOpendir),
	}
}

func number[T ~uint16 | ~uint32 | ~uint64](p *T) field {
	return field{func() uint64 { return uint64(*p) }, func(v uint64) { *p = T(v) }}
}

func truth(p *bool) field {
	return field{
		func() uint64 {
			if *p {
				return 1
			}
			return 0
		},
		func(v uint64) { *p = v != 0 },
	}
}
