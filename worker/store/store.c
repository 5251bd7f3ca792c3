#include "worker/store/budget.h"
