#include "broker/core/sched.h"
