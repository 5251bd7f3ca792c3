#include "worker/core/agent.h"
