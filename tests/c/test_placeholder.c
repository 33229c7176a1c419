#include "core/arena.h"
#include <stdio.h>
int main(void) { puts("hello"); return 0; }
