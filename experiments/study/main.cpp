// The main() of every program of studies/, which names its study.
#include "experiments/study/study.h"

int main(int argc, char** argv) { return surtsey::experiments::kStudy.main(argc, argv); }
