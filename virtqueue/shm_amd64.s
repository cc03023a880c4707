#include "textflag.h"

// func store16Fence(p *uint16, v uint16)
// XCHG with memory is locked: a full fence.
TEXT ·store16Fence(SB), NOSPLIT, $0-10
	MOVQ p+0(FP), AX
	MOVW v+8(FP), BX
	XCHGW BX, (AX)
	RET
