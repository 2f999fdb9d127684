// The precompiled header of tests/: the standard library as everywhere, and the test framework.
#ifndef SURTSEY_TESTS_SUPPORT_PCH_H
#define SURTSEY_TESTS_SUPPORT_PCH_H

#include "graph/pch/pch.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <nlohmann/json.hpp>

#endif
