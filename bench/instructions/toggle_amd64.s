#include "textflag.h"

// A request to valgrind is four rotations that together do nothing and an exchange that does nothing, with the request and its
// five arguments at AX and the default result in DX. This one is the third of tool CT: toggle collection.

// func toggleCollect()
TEXT ·toggleCollect(SB), NOSPLIT, $48-0
	MOVQ $0x43540002, AX
	MOVQ AX, request-48(SP)
	XORL AX, AX
	MOVQ AX, a-40(SP)
	MOVQ AX, b-32(SP)
	MOVQ AX, c-24(SP)
	MOVQ AX, d-16(SP)
	MOVQ AX, e-8(SP)
	LEAQ request-48(SP), AX
	XORL DX, DX
	ROLQ $3, DI
	ROLQ $13, DI
	ROLQ $61, DI
	ROLQ $51, DI
	XCHGQ BX, BX
	RET
