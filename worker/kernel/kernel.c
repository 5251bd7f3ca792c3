#include "worker/kernel/kernel.h"
