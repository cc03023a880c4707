package build

import "encoding/binary"

// le is the byte order of everything that is written (rafs.md 0.1).
var le = binary.LittleEndian
