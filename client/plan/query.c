#include "client/plan/query.h"
