# cmake --install BUILD --prefix PREFIX: the program, its man page and bash completion, docs, configs and the scripts that
# plot or start installed runs or make their data. The man page and the completion come from the program's own options.
include(GNUInstallDirs)
install(TARGETS spikefloss RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES README.md CHANGELOG.md CITATION.cff CONTRIBUTING.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs
  PATTERN "figures" EXCLUDE PATTERN "__pycache__" EXCLUDE)
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/spikefloss)
# launch/build, train, test, sweep and the Slurm jobs need a clone. These scripts need only SPIKEFLOSS, the program, or
# nothing.
install(PROGRAMS launch/mpirun.sh launch/plot launch/spoken_digits DESTINATION ${CMAKE_INSTALL_DATADIR}/spikefloss/launch)
install(DIRECTORY launch/mpirun DESTINATION ${CMAKE_INSTALL_DATADIR}/spikefloss/launch USE_SOURCE_PERMISSIONS)
install(FILES launch/plot.mplstyle DESTINATION ${CMAKE_INSTALL_DATADIR}/spikefloss/launch)

set(_made ${PROJECT_BINARY_DIR}/installed)
find_program(SPIKEFLOSS_HELP2MAN help2man DOC "Makes the man page")
string(CONFIGURE [[
  set(program "@PROJECT_BINARY_DIR@/spikefloss")
  set(made "@_made@")
  file(MAKE_DIRECTORY "${made}")
  execute_process(COMMAND "${program}" --bash-completion OUTPUT_FILE "${made}/spikefloss" RESULT_VARIABLE fault)
  if(fault)
    message(FATAL_ERROR "spikefloss --bash-completion ended with ${fault}; build the target spikefloss first")
  endif()
  set(help2man "@SPIKEFLOSS_HELP2MAN@")
  file(REMOVE "${made}/spikefloss.1")
  if(help2man)
    execute_process(COMMAND "${help2man}" --no-info --section=1 --help-option=--help-all
      "--version-string=spikefloss @PROJECT_VERSION@" "--name=trains spiking networks with surrogate gradient flossing"
      "--output=${made}/spikefloss.1" "${program}" RESULT_VARIABLE fault)
    if(fault)
      message(FATAL_ERROR "help2man ended with ${fault}")
    endif()
  else()
    message(STATUS "Not installed: the man page. help2man was not found when the build was configured (apt-get install help2man)")
  endif()
]] _script @ONLY)
install(CODE "${_script}")
install(FILES ${_made}/spikefloss DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${_made}/spikefloss.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
