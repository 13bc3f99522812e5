"""The words that a line of input.nn may begin with: n2p2's (library of 2024-11) and RuNNer's (1.3), by what they mean here."""

ALIASES = {
    "symfunction": "symfunction_short",
    "global_symfunction_short_atomic": "global_symfunction_short",
    "global_nodes_short_atomic": "global_nodes_short",
    "scale_min_short_atomic": "scale_min_short",
    "scale_max_short_atomic": "scale_max_short",
    "nnp_generation": "nnp_type",
    "nnp_type_gen": "nnp_type",
    "nnp_gen": "nnp_type",
}

MODEL = {
    "number_of_elements",
    "elements",
    "atom_energy",
    "cutoff_type",
    "cutoff_alpha",
    "symfunction_short",
    "element_symfunction_short",
    "global_symfunction_short",
    "scale_symmetry_functions",
    "scale_symmetry_functions_sigma",
    "center_symmetry_functions",
    "scale_min_short",
    "scale_max_short",
    "global_hidden_layers_short",
    "global_nodes_short",
    "global_activation_short",
    "element_hidden_layers_short",
    "element_nodes_short",
    "element_activation_short",
    "normalize_nodes",
    "mean_energy",
    "conv_energy",
    "conv_length",
    "nnp_type",
    "nn_type_short",
}
"""What the potential is made of."""

SEVERAL = {
    "atom_energy",
    "symfunction_short",
    "element_symfunction_short",
    "global_symfunction_short",
    "element_hidden_layers_short",
    "element_nodes_short",
    "element_activation_short",
}
"""Those of MODEL that may stand on several lines."""

BEYOND = {
    "use_electrostatics": "electrostatics",
    "use_electrostatic_nn": "electrostatics",
    "use_fixed_charges": "electrostatics",
    "use_vdw": "dispersion terms",
    "use_hamiltonian": "Hamiltonian networks",
    "use_atom_spins": "spin-dependent symmetry functions",
}
"""Switches of physics that a short-range potential does not have."""

KEPT = set(
    """
    analyze_composition analyze_error analyze_error_charge_step analyze_error_energy_step analyze_error_force_step basis
    biasweights_max biasweights_min bond_threshold calculate_final_force calculate_forces calculate_hessian calculate_stress
    charge_error_threshold charge_fraction charge_group charge_grouping_by_structure charge_update_scaling check_forces
    check_input_forces conv_charge cutoff_vdw data_clustering debug_mode detailed_timing detailed_timing_epoch
    detect_saturation dynamic_force_grouping electrostatic_type element_activation_electrostatic element_activation_ham
    element_activation_pair element_decoupled_forces_v2 element_decoupled_kalman element_hamsymfunction
    element_hidden_layers_electrostatic element_hidden_layers_ham element_hidden_layers_pair element_nodes_electrostatic
    element_nodes_ham element_nodes_pair element_pairsymfunction_short element_symfunction_electrostatic
    enable_on_the_fly_input energy_fraction energy_threshold enforce_max_num_neighbors_atomic enforce_totcharge
    environment_analysis epochs ewald_alpha ewald_cutoff ewald_kmax ewald_prec ewald_truncation_error_method
    find_contradictions fitting_unit fix_weights fixed_charge fixed_gausswidth fixed_short_energy_error_threshold
    fixed_short_force_error_threshold force_energy_ratio force_fraction force_grouping_by_structure force_threshold
    force_update_scaling force_weight four_pi_epsilon global_activation_electrostatic global_activation_ham
    global_activation_pair global_hidden_layers_electrostatic global_hidden_layers_ham global_hidden_layers_pair
    global_nodes_electrostatic global_nodes_ham global_nodes_pair global_nodes_short_pair global_output_nodes_electrostatic
    global_output_nodes_ham global_output_nodes_pair global_output_nodes_short global_pairsymfunction_short
    global_symfunction_elec global_symfunction_electrostatic global_symfunction_short_pair gradient_adam_beta1
    gradient_adam_beta2 gradient_adam_epsilon gradient_adam_eta gradient_eta gradient_type growth_mode initial_hardness
    initialization_only ion_forces_only jacobian_mode joint_energy_force_update kalman_damp_charge kalman_damp_force
    kalman_damp_short kalman_epsilon kalman_eta kalman_etamax kalman_etatau kalman_lambda_charge
    kalman_lambda_charge_constraint kalman_lambda_short kalman_nue_charge kalman_nue_charge_constraint kalman_nue_short
    kalman_q0 kalman_qmin kalman_qtau kalman_type main_error_metric max_energy max_force md_mode memorize_symfunc_results
    mix_all_points nguyen_widrow_weights_charge nguyen_widrow_weights_ewald nguyen_widrow_weights_short nn_type_elec
    nn_type_nntb nn_type_vdw noise_charge noise_energy noise_force normalize_data_set optmode_charge optmode_short_energy
    optmode_short_force pairsymfunction_short parallel_mode points_in_memory precondition_weights prepare_md
    print_all_deshortdw print_all_dfshortdw print_all_electrostatic_weights print_all_short_weights
    print_convergence_vector print_date_and_time print_force_components print_mad print_sensitivity random_number_type
    random_order_training random_seed read_kalman_matrices read_unformatted regularize_fit_param remove_atom_energies
    remove_vdw_energies repeated_energy_update reset_kalman restrict_weights rmse_threshold rmse_threshold_charge
    rmse_threshold_energy rmse_threshold_force rmse_threshold_trials rmse_threshold_trials_charge
    rmse_threshold_trials_energy rmse_threshold_trials_force runner_mode save_kalman_matrices scale_max_elec
    scale_max_short_pair scale_min_elec scale_min_short_pair screen_electrostatics selection_mode selection_mode_charge
    selection_mode_energy selection_mode_force separate_bias_ini_short separate_kalman_short short_energy_error_threshold
    short_energy_fraction short_energy_group short_force_error_threshold short_force_fraction short_force_group
    shuffle_weights_short_atomic silent_mode steepest_descent_step_charge steepest_descent_step_energy_short
    steepest_descent_step_force_short symfunction_correlation symfunction_electrostatic task_batch_size_charge
    task_batch_size_energy task_batch_size_force test_fraction update_single_element update_strategy update_worst_charges
    update_worst_short_energies update_worst_short_forces updater_type use_atom_charges use_atom_energies use_damping
    use_gausswidth use_noisematrix use_old_scaling use_old_weights_charge use_old_weights_short use_omp_mkl
    use_short_forces use_short_nn use_systematic_weights_electrostatic use_systematic_weights_short vdw_param
    vdw_screening vdw_type weight_analysis weight_constraint weighte_constraint weights_max weights_min weightse_max
    weightse_min write_binding_energy_only write_fit_statistics write_neuronstats write_pdb write_pov write_pwscf
    write_symfunctions write_temporary_weights write_traincharges write_trainforces write_trainlog write_trainpoints
    write_unformatted write_weights_epoch write_xyz
    """.split()
)
"""Of training, of the programs' own runs and of networks that a short-range potential does not have: kept, not used."""

KNOWN = MODEL | KEPT | set(BEYOND) | set(ALIASES)
