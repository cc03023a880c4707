#include "textflag.h"

// func store16Fence(p *uint16, v uint16)
// The barrier is DMB ISH: the guest's CPUs are in the inner shareable domain.
TEXT ·store16Fence(SB), NOSPLIT, $0-10
	MOVD p+0(FP), R0
	MOVHU v+8(FP), R1
	DMB $11
	MOVH R1, (R0)
	DMB $11
	RET
